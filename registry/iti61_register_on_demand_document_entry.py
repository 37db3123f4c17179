"""ITI-61 Register On-Demand Document Entry, Document Registry side (ITI TF-2: 3.61).

Request  lcm:SubmitObjectsRequest as in ITI-42, every DocumentEntry of the On-Demand type
Reply    rs:RegistryResponse: Success, or Failure with every error found; all or nothing
Errors   those of ITI-42; XDSRegistryMetadataError for a Stable entry, for creationTime, hash or size, and for a
         uniqueId that a Stable entry has. The uniqueId of an On-Demand entry may be registered again: a new entry
Effects  those of ITI-42
"""

from functools import partial
from typing import Final

from registry import iti42_register_document_set_b as iti42

read_submission: Final = partial(iti42.read_submission, on_demand=True)
