"""What to do about each named error: shown when a run gives up, in the report and by `curate explain`."""

from __future__ import annotations

REMEDIES = {
    "timeout": "raise download.timeout_s, lower download.concurrency, or run `curate retry` later",
    "connect_timeout": "raise download.connect_timeout_s, or run `curate retry` later",
    "dns": "check this machine's name server; names that no longer exist stay failed",
    "connection_refused": "the server is down: run `curate retry` later",
    "connection_reset": "lower download.per_host, then run `curate retry`",
    "host_down": "the host failed many times in a row and was left alone: run `curate retry` later",
    "connection_error": "the connection broke: run `curate retry` later",
    "unreachable": "no way to the host: check this machine's network, then run `curate retry`",
    "tls": "the host's certificate is not valid; nothing can be done here",
    "bad_response": "the host does not speak HTTP as it should: run `curate retry` later",
    "lost": "img2dataset gave no answer for the row: run `curate retry`",
    "private_address": "the host is private: name it in download.allow_private if you mean it",
    "forbidden_scheme": "only http and https are fetched; for local files use source.type: folder",
    "bad_url": "the table's URL column holds something else: look at source.url",
    "missing_url": "the table's URL column is empty in these rows: look at source.url",
    "too_many_redirects": "raise download.max_redirects if the hosts are known to redirect this much",
    "redirect_loop": "the host redirects in a circle; nothing can be done here",
    "body_too_large": "raise download.max_bytes if such files are wanted",
    "truncated_body": "the server broke off: run `curate retry`",
    "opt_out": "the owner opted out; curate honours it",
    "html_instead_of_image": "the host answers with a page, often a login or an error: the image is gone",
    "empty_body": "the host sent no bytes: run `curate retry` later",
    "http_403": "the host refuses robots: set download.user_agent to say who you are and how to reach you",
    "http_404": "the image is gone; expect this of 5 to 50 % of an old table",
    "http_410": "the image is gone for good",
    "http_429": "the host asks for patience: lower download.per_host, then run `curate retry`",
    "http_503": "the host is overloaded: lower download.per_host, then run `curate retry`",
    "bad_row": "the table has broken rows: look at the lines that `curate explain` names",
    "bad_encoding": "text that is not UTF-8: convert the table with iconv",
    "bad_json": "a JSON part that does not parse: write it again",
    "missing_caption": "no caption beside the image: look at source.text and source.captions",
    "missing_file": "the table names images that are not in the folder: look at source.path and source.image",
    "unreadable_file": "the file or a link to it cannot be read: look at its rights and where it points",
    "empty_file": "the file holds nothing: copy it again, or leave it dropped",
    "file_too_large": "an image file of more than 256 MB: make it smaller, or leave it dropped",
    "missing_image": "the tar's samples have no image part",
    "duplicate_key": "two samples of a tar have one key; the first is kept: give each its own",
    "truncated_tar": "the tar ends too early: copy it again",
    "corrupt_tar": "the tar is damaged: copy it again",
    "unsafe_name": "a name leads out of its folder; such samples are refused",
    "truncated_image": "the image file ends too early: download it again",
    "image_too_large": "the image is above the side or pixel limit that guards against bombs",
    "unsupported_format": "an image format that is refused (JPEG 2000, HEIF, SVG, ...): convert it to PNG or JPEG",
    "decode_error": "the image file is damaged: download it again",
    "not_an_image": "the bytes are of no image format that is known",
}


def remedy(error: str) -> str:
    """What to do about `error`; every error has at least a next step."""
    return REMEDIES.get(error, "`curate explain UID` shows the rows and the detail of each")
