"""certificates.py - a CA of one's own for the stories about TLS, made by openssl."""

import os
import subprocess


def openssl(*args):
    result = subprocess.run(["openssl", *args], capture_output=True, text=True)
    assert result.returncode == 0, f"openssl {' '.join(args)}: {result.stderr}"
    return result.stdout


class CA:
    """A directory with ca.pem, and what make() puts beside it."""

    def __init__(self, directory, name="ca"):
        self.directory, self.name, self.serial = directory, name, 1
        self.path = self._at("pem")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", f"/CN={name}", "-days", "30", "-keyout", self._at("key"), "-out", self.path)

    def _at(self, ending):
        return os.path.join(self.directory, f"{self.name}.{ending}")

    def make(self, name, subject=None, san=None, days=30, usage="serverAuth,clientAuth"):
        """(certificate, key): paths.  days may be negative: it has expired."""
        base = os.path.join(self.directory, name)
        self.serial += 1
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                f"/CN={subject or name}", "-keyout", base + ".key", "-out", base + ".csr")
        with open(base + ".ext", "w") as f:
            f.write(f"extendedKeyUsage={usage}\n" + (f"subjectAltName={san}\n" if san else ""))
        # "x509 -days -1" makes one that ended yesterday
        openssl("x509", "-req", "-in", base + ".csr", "-CA", self.path, "-CAkey", self._at("key"),
                "-set_serial", str(self.serial), "-days", str(days), "-extfile", base + ".ext",
                "-out", base + ".pem")
        os.chmod(base + ".key", 0o600)
        return base + ".pem", base + ".key"

    def server(self, name="server", **more):
        return self.make(name, san="DNS:localhost,IP:127.0.0.1", **more)


def fingerprint(certificate):
    """As openssl prints it: AB:CD:…"""
    return openssl("x509", "-in", certificate, "-noout", "-fingerprint", "-sha256").strip().split("=")[1]
