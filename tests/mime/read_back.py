"""A second opinion: reads each mail in a folder with Python's email package and compares it with what went in.

Usage: read_back.py FOLDER, which holds pairs NAME.eml and NAME.json. Prints every difference; exit code 1 if any.
"""

import base64
import email
import email.errors
import email.header
import email.policy
import email.utils
import json
import pathlib
import re
import sys


def lines(text):
    return None if text is None else text.replace("\r\n", "\n")


def parse(raw):
    if raw.isascii():
        return email.message_from_bytes(raw, policy=email.policy.default)
    return email.message_from_string(raw.decode("utf-8"), policy=email.policy.default)


def mailbox(message, name):
    """The one mailbox of a field, read in two ways.

    The newer reader of Python 3.11 puts a space between adjacent encoded-words of a display name, and makes one of
    several spaces: there only the rest of the name is compared, and the older reader must find it exactly.
    """
    header = message[name]
    if header is None:
        return None
    (address,) = header.addresses
    raw = header_text(message, name)
    shown, spec = email.utils.parseaddr(raw)
    shown = str(email.header.make_header(email.header.decode_header(shown))) if "=?" in shown else shown
    if squeezed(shown) != squeezed(address.display_name):
        return ["two readers differ", shown, address.display_name]
    return [shown, address.addr_spec]


def squeezed(text):
    return "".join(text.split())


def header_text(message, name):
    """The field unfolded but not decoded."""
    (value,) = [value for found, value in message.raw_items() if found.lower() == name]
    source = getattr(value, "source", None) or str(value)
    return re.sub(r"\r?\n", "", source)


def file_of(part):
    content_id = part["content-id"]
    return {
        # get_filename() would strip spaces.
        "filename": part["content-disposition"].params.get("filename"),
        "contentType": part.get_content_type(),
        "contentId": None if content_id is None else str(content_id),
        "disposition": part.get_content_disposition(),
        "content": base64.b64encode(part.get_payload(decode=True)).decode(),
    }


def defects(message):
    for part in message.walk():
        yield from part.defects
        for value in part.values():
            # RFC 6532 allows what this one complains of.
            known = email.errors.NonASCIILocalPartDefect
            yield from (defect for defect in getattr(value, "defects", ()) if not isinstance(defect, known))


def differences(message, wanted):
    def check(what, found, want):
        if found != want:
            yield f"{what}: found {found!r:.2000}, wanted {want!r:.2000}"

    yield from check("defects", list(defects(message)), [])
    yield from check("subject", str(message["subject"]), wanted["subject"])
    for name in ("from", "to", "reply-to"):
        yield from check(name, mailbox(message, name), wanted[name])
    yield from check("message-id", str(message["message-id"]), wanted["message-id"])
    yield from check("date", message["date"].datetime.isoformat(), wanted["date"])
    for name, value in wanted["headers"]:
        yield from check(name, [str(found) for found in message.get_all(name, [])], [value])
    structure = [part.get_content_type() for part in message.walk() if part.is_multipart()]
    yield from check("structure", structure, wanted["structure"])
    leaves = [part for part in message.walk() if not part.is_multipart()]
    texts = [part for part in leaves if part.get_filename() is None]
    for subtype in ("plain", "html"):
        found = [lines(part.get_content()) for part in texts if part.get_content_subtype() == subtype]
        want = wanted[subtype]
        if want is None:
            continue
        yield from check(subtype, found, [want] if want is not False else [])
    files = [file_of(part) for part in leaves if part.get_filename() is not None]
    order = lambda found: (found["filename"], found["content"])
    yield from check("files", sorted(files, key=order), sorted(wanted["files"], key=order))


def main():
    folder = pathlib.Path(sys.argv[1])
    wrong = 0
    mails = sorted(folder.glob("*.eml"))
    for path in mails:
        wanted = json.loads(path.with_suffix(".json").read_text("utf-8"))
        for difference in differences(parse(path.read_bytes()), wanted):
            wrong += 1
            print(f"{path.stem}: {difference}")
    print(f"{len(mails)} mails, {wrong} differences")
    return 1 if wrong or not mails else 0


if __name__ == "__main__":
    sys.exit(main())
