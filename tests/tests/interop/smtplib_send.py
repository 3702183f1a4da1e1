"""Sends the message on standard input with smtplib.

    smtplib_send.py HOST PORT starttls|implicit USER PASSWORD FROM TO
"""

import smtplib
import ssl
import sys


def main():
    host, port, mode, user, password, sender, recipient = sys.argv[1:8]
    content = sys.stdin.buffer.read()
    # The test's certificate is made for the test.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if mode == "implicit":
        client = smtplib.SMTP_SSL(host, int(port), context=context, timeout=20)
    else:
        client = smtplib.SMTP(host, int(port), timeout=20)
        client.starttls(context=context)
    with client:
        client.login(user, password)
        refused = client.sendmail(sender, [recipient], content, mail_options=["BODY=8BITMIME"])
        assert not refused, refused


main()
