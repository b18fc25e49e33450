"""certbot's Cloudflare plug-in, name by name as certbot drives it: certbot_plugin.py present|clean NAME=VALUE...

CLOUDFLARE_BASE_URL and TOKEN say where and who. NAME is the name to be proved, without the challenge's label.
"""

import os
import sys

from certbot_dns_cloudflare._internal.dns_cloudflare import Authenticator


class Credentials:
    def conf(self, key):
        return os.environ["TOKEN"] if key == "api-token" else None


authenticator = Authenticator(config=None, name="dns-cloudflare")
authenticator.credentials = Credentials()
act = {"present": authenticator._perform, "clean": authenticator._cleanup}[sys.argv[1]]
for pair in sys.argv[2:]:
    name, value = pair.split("=")
    act(name, f"_acme-challenge.{name}", value)
