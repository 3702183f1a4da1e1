"""Verifies every DKIM signature of the message on standard input with dkimpy.

    dkim_verify.py RECORD

RECORD is a file with the only TXT record there is. Exits with 0 when there is a signature and all
are good, 1 when one is bad, 2 when there is none.
"""

import sys

import dkim


def main():
    with open(sys.argv[1], "rb") as file:
        record = file.read()
    message = sys.stdin.buffer.read()
    count = sum(1 for name, _ in dkim.rfc822_parse(message)[0] if name.lower() == b"dkim-signature")
    if count == 0:
        print("no signature")
        return 2
    verifier = dkim.DKIM(message)
    for index in range(count):
        try:
            good = verifier.verify(idx=index, dnsfunc=lambda name, timeout=5: record)
        except dkim.DKIMException as why:
            print(why)
            return 1
        if not good:
            return 1
    return 0


sys.exit(main())
