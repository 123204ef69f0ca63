"""project/mail.py: sign every message by S/MIME (RFC 8551)."""

import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7


def sign_by_smime(content: bytes) -> bytes:
    """Wrap the body into multipart/signed."""
    header, _, body = content.partition(b"\r\n\r\n")
    fields = header.replace(b"\r\n ", b"\r\n\t").split(b"\r\n")
    inner, outer, own = [], [], False
    for line in fields:
        if not line.startswith(b"\t"):  # a fold belongs to the field before it
            own = line.lower().startswith(b"content-")
        (inner if own else outer).append(line)
    certificate = x509.load_pem_x509_certificate(Path(os.environ["SMIME_CERTIFICATE"]).read_bytes())
    key = serialization.load_pem_private_key(Path(os.environ["SMIME_KEY"]).read_bytes(), None)
    signed = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(b"\r\n".join(inner) + b"\r\n\r\n" + body)
        .add_signer(certificate, key, hashes.SHA256())
        .sign(serialization.Encoding.SMIME, [pkcs7.PKCS7Options.DetachedSignature])
    )
    fields = [line for line in outer if not line.lower().startswith(b"mime-version:")]
    return b"\r\n".join(fields) + b"\r\n" + signed.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
