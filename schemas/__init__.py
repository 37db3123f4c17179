"""XML at the door: the hardened parser, our XSD and WSDL, and the check of a message against them.

Imports nothing of the house. Requests are checked leniently (what we tolerate), answers and what we send strictly
(what we promise, and what ``?wsdl`` publishes).
"""

from schemas.checking import strict_violations, violations
from schemas.loader import wsdl, xsd
from schemas.parser import Refusal, XmlRefused, parse_xml

__all__ = ["Refusal", "XmlRefused", "parse_xml", "strict_violations", "violations", "wsdl", "xsd"]
