"""ebRIM objects as the values plain zeep builds its messages from."""

from itertools import count

from ihe.registry_objects import Kind

_ELEMENT = {Kind.DOCUMENT_ENTRY: "ExtrinsicObject", Kind.ASSOCIATION: "Association"}


def object_list(objects):
    """rim:RegistryObjectList, every id that the strict schema asks for filled in."""
    numbers = count(1)
    items = [{_ELEMENT.get(one.kind, "RegistryPackage"): _object(one, numbers)} for one in objects.objects]
    return {"_value_1": items}


def _object(one, numbers):
    own = one.id or f"o{next(numbers)}"
    pairs = {
        "id": own,
        "lid": one.lid,
        "home": one.home,
        "objectType": one.object_type,
        "mimeType": one.mime_type,
        "associationType": one.type,
        "sourceObject": one.source,
        "targetObject": one.target,
        "Slot": [_slot(slot) for slot in one.slots],
        "Name": _texts(one.name),
        "Classification": [_classification(each, own, numbers) for each in one.classifications],
        "ExternalIdentifier": [_identifier(each, own, numbers) for each in one.external_identifiers],
    }
    return {key: value for key, value in pairs.items() if value not in (None, [])}


def _slot(slot):
    return {"name": slot.name, "ValueList": {"Value": list(slot.values)}}


def _texts(texts):
    return {"LocalizedString": [{"value": one.value} for one in texts]} if texts else None


def _classification(one, owner, numbers):
    pairs = {
        "id": f"c{next(numbers)}",
        "classificationScheme": one.scheme,
        "classificationNode": one.node,
        "classifiedObject": owner,
        "nodeRepresentation": one.node_representation,
        "Slot": [_slot(slot) for slot in one.slots],
        "Name": _texts(one.name),
    }
    return {key: value for key, value in pairs.items() if value not in (None, [])}


def _identifier(one, owner, numbers):
    return {
        "id": f"i{next(numbers)}",
        "identificationScheme": one.scheme,
        "registryObject": owner,
        "value": one.value,
        "Name": _texts(one.name),
    }
