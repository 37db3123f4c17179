"""Three fictitious documents of one fictitious patient, written for this project, to try a Dossier with."""
