"""The server's side of SASL: a mechanism is given ask(challenge) -> answer, and returns the user or None."""

import base64
import binascii
import hashlib
import hmac
import json
import secrets

REFUSED_TOKEN = json.dumps({"status": "400", "schemes": "Bearer", "scope": "https://mail.example/"}).encode()


class AbandonedError(Exception):
    """Raised when the client cancels with "*", or sends an answer that is not base64."""


def decode(answer):
    """Return the octets of a client's answer; "=" is an empty answer."""
    if answer == "*":
        raise AbandonedError("501 5.7.0 Authentication aborted")
    try:
        return b"" if answer == "=" else base64.b64decode(answer, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AbandonedError("501 5.5.2 Cannot decode response") from error


def encode(challenge):
    """Return the text of a server's challenge."""
    return base64.b64encode(challenge).decode()


def plain(ask, initial, users):
    """PLAIN, RFC 4616."""
    parts = (ask(b"") if initial is None else initial).split(b"\0")
    return _known(parts[1], parts[2], users) if len(parts) == 3 else None


def login(ask, initial, users):
    """LOGIN, which has no standard."""
    user = ask(b"Username:") if initial is None else initial
    return _known(user, ask(b"Password:"), users)


def cram_md5(ask, initial, users):
    """CRAM-MD5, RFC 2195."""
    challenge = f"<{secrets.token_hex(8)}@fault.test>".encode()
    user, _, digest = ask(challenge).decode().rpartition(" ")
    expected = hmac.new(users.get(user, "").encode(), challenge, "md5").hexdigest()
    return user if user in users and hmac.compare_digest(digest, expected) else None


def xoauth2(ask, initial, users):
    """XOAUTH2: a refusal is a challenge of JSON, which the client answers with an empty line."""
    fields = (ask(b"") if initial is None else initial).split(b"\1")
    user = fields[0].removeprefix(b"user=")
    return _bearer(ask, fields, user, users)


def oauthbearer(ask, initial, users):
    """OAUTHBEARER, RFC 7628: like XOAUTH2, with a GS2 header."""
    header, *fields = (ask(b"") if initial is None else initial).split(b"\1")
    user = header.removeprefix(b"n,a=").rstrip(b",").replace(b"=2C", b",").replace(b"=3D", b"=")
    return _bearer(ask, fields, user, users)


def external(ask, initial, users):
    """EXTERNAL, RFC 4422: the user of the client certificate; an empty name means the user in the certificate."""
    user = (ask(b"") if initial is None else initial).decode()
    return user if user in users else None if user else "the certificate's own"


def scram(algorithm):
    """SCRAM-*, RFC 5802 and 7677, without channel binding."""

    def mechanism(ask, initial, users):
        first = (ask(b"") if initial is None else initial).decode()
        bare = first.split(",", 2)[2]
        fields = dict(field.split("=", 1) for field in bare.split(","))
        user = fields["n"].replace("=2C", ",").replace("=3D", "=")
        salt, nonce = secrets.token_bytes(16), fields["r"] + secrets.token_hex(8)
        challenge = f"r={nonce},s={encode(salt)},i=4096"
        final = ask(challenge.encode()).decode()
        without_proof, _, proof = final.rpartition(",p=")
        signed = f"{bare},{challenge},{without_proof}".encode()
        salted = hashlib.pbkdf2_hmac(algorithm, users.get(user, "").encode(), salt, 4096)
        if user not in users or not without_proof.endswith(f",r={nonce}"):
            return None
        if not _proved(algorithm, salted, signed, decode(proof)):
            return None
        server_key = hmac.digest(salted, b"Server Key", algorithm)
        ask(b"v=" + encode(hmac.digest(server_key, signed, algorithm)).encode())
        return user

    return mechanism


def _proved(algorithm, salted, signed, proof):
    stored = hashlib.new(algorithm, hmac.digest(salted, b"Client Key", algorithm)).digest()
    signature = hmac.digest(stored, signed, algorithm)
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=False))
    return hmac.compare_digest(hashlib.new(algorithm, client_key).digest(), stored)


def _known(user, password, users):
    user = user.decode("utf-8", "replace")
    return user if users.get(user, "").encode() == password and user in users else None


def _bearer(ask, fields, user, users):
    tokens = [field[len(b"auth=Bearer ") :] for field in fields if field.lower().startswith(b"auth=bearer ")]
    known = _known(user, tokens[0], users) if tokens else None
    if not known:
        ask(REFUSED_TOKEN)  # any answer; it should be an empty line
    return known


MECHANISMS = {
    "PLAIN": plain,
    "LOGIN": login,
    "CRAM-MD5": cram_md5,
    "XOAUTH2": xoauth2,
    "OAUTHBEARER": oauthbearer,
    "EXTERNAL": external,
    "SCRAM-SHA-1": scram("sha1"),
    "SCRAM-SHA-256": scram("sha256"),
}
