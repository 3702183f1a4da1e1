//! The table of `From` fields: what is read, and what is refused, with the attacks by name.

use super::*;

/// What a field is read as: the address, or a piece of the refusal's reason.
fn check(field: &[u8], expected: Result<&str, &str>) {
    let shown = String::from_utf8_lossy(field);
    match (read_author(&[field]), expected) {
        (Ok(author), Ok(address)) => {
            assert_eq!(author.address(), address, "{shown:?}");
            assert_eq!(author.domain(), address.rsplit_once('@').expect("an @").1, "{shown:?}");
        }
        (Err(refusal), Err(reason)) => {
            assert_eq!((refusal.code, refusal.enhanced), (550, (5, 7, 1)), "{shown:?}");
            assert!(refusal.text.contains(reason), "{shown:?}: {}", refusal.text);
            assert!(refusal.text.bytes().all(|b| (b' '..0x7f).contains(&b)), "{shown:?}");
        }
        (found, _) => panic!("{shown:?}: {found:?}, expected {expected:?}"),
    }
}

#[test]
fn ordinary_fields_are_read() {
    for (field, address) in [
        (" a@example.com", "a@example.com"),
        ("a@example.com", "a@example.com"),
        (" a@example.com\r\n", "a@example.com"),
        (" a@example.com \t", "a@example.com"),
        (" <a@example.com>", "a@example.com"),
        (" <a@example.com> ", "a@example.com"),
        (" A.B+tag@Example.COM", "A.B+tag@example.com"),
        (" Billing <a@example.com>", "a@example.com"),
        (" Billing<a@example.com>", "a@example.com"),
        (" J. R. Hacker <a@example.com>", "a@example.com"),
        (" O'Neil & Sons <a@example.com>", "a@example.com"),
        (" \"Doe, John\" <a@example.com>", "a@example.com"),
        (" \"a@example.com\" <a@example.com>", "a@example.com"),
        (" \"user@example.net via Shop\" <a@example.com>", "a@example.com"),
        (" \"John \\\"JJ\\\" Doe\" <a@example.com>", "a@example.com"),
        (" \"\" <a@example.com>", "a@example.com"),
        (" \"A\" B \"C\" <a@example.com>", "a@example.com"),
        (" \"Shop: orders; returns\" <a@example.com>", "a@example.com"),
        (" John Doe (Sales) <a@example.com>", "a@example.com"),
        (" <a@example.com> (Sales)", "a@example.com"),
        (" root@example.com (Cron Daemon)", "root@example.com"),
        (" =?UTF-8?Q?B=C3=BCcher?= <a@example.com>", "a@example.com"),
        (" =?utf-8?B?QsO8Y2hlcg==?= =?utf-8?B?IEdtYkg=?= <a@example.com>", "a@example.com"),
        (" \"=?UTF-8?Q?B=C3=BCcher?=\" <a@example.com>", "a@example.com"),
        (" =?ISO-2022-JP?B?GyRCRnxLXBsoQg==?= <a@example.com>", "a@example.com"),
        (" Bücher GmbH <a@example.com>", "a@example.com"),
        (" \"日本\" <a@example.com>", "a@example.com"),
        (" Postmaster\r\n <a@example.com>", "a@example.com"),
        ("\r\n a@example.com", "a@example.com"),
        (" A very long display name\r\n\tthat goes on <a@example.com>", "a@example.com"),
        (" a@bücher.example", "a@xn--bcher-kva.example"),
        (" a@BÜCHER.example", "a@xn--bcher-kva.example"),
        (" a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        (" jürgen@example.com", "jürgen@example.com"),
        (" !#$%&'*+-/=^_`{|}~@example.com", "!#$%&'*+-/=^_`{|}~@example.com"),
    ] {
        check(field.as_bytes(), Ok(address));
    }
}

#[test]
fn fields_without_a_single_mailbox_are_refused() {
    for (field, reason) in [
        ("", "empty"),
        (" ", "empty"),
        (" \r\n", "empty"),
        (" <>", "brackets are empty"),
        (" Billing", "no address"),
        (" Billing <>", "brackets are empty"),
        (" Billing <a>", "no @"),
        (" a@example.com, b@example.com", "more than one mailbox"),
        (" a@example.com,", "more than one mailbox"),
        (" ,a@example.com", "more than one mailbox"),
        (" <a@example.com>, <b@example.com>", "more than one mailbox"),
        (" A <a@example.com>, B <b@example.com>", "more than one mailbox"),
        (" <a@example.com><b@example.com>", "behind the address"),
        (" a@example.com b@example.com", "without brackets"),
        (" a@example.com <b@example.com>", "second address"),
        (" Team: a@example.com;", "a group"),
        (" Team:;", "a group"),
        (" undisclosed-recipients:;", "a group"),
        (" Team: <a@example.com>;", "a group"),
        (" a@example.com;", "a group"),
    ] {
        check(field.as_bytes(), Err(reason));
    }
}

/// The cases of "Composition kills" (espoofer) and their relatives, with `legit` as the domain an
/// attacker wants to be seen as.
#[test]
fn what_parsers_read_differently_is_refused() {
    for (field, reason) in [
        // Routes, of which some readers take the first and some the last address.
        (" <@legit.example,@b.example:a@example.com>", "source route"),
        (" <@legit.example:a@example.com>", "source route"),
        (" @legit.example:a@example.com", "a group"),
        // An encoded word where an address should be.
        (" =?utf-8?B?PGFkbWluQGxlZ2l0LmV4YW1wbGU+?=", "hides an address"),
        (" =?utf-8?B?YWRtaW5AbGVnaXQuZXhhbXBsZQ==?=", "hides an address"),
        (" =?utf-8?B?PGFkbWluQGxlZ2l0LmV4YW1wbGU+?= <a@example.com>", "hides an address"),
        (" =?utf-8?Q?admin=40legit.example?= <a@example.com>", "hides an address"),
        (" \"=?utf-8?Q?=3Cadmin=40legit.example=3E?=\" <a@example.com>", "hides an address"),
        (" =?utf-8?Q?a=00b?= <a@example.com>", "hides an address"),
        (" =?utf-8?Q?a=0D=0AFrom=3A?= <a@example.com>", "hides an address"),
        (" <=?utf-8?Q?admin?=@example.com>", "encoded word"),
        (" =?utf-8?Q?admin?=@example.com", "encoded word"),
        (" a@=?utf-8?Q?legit?=.example", "encoded word"),
        (" =?utf-8?X?abc?= <a@example.com>", "damaged encoded word"),
        (" =?utf-8?B?%%%?= <a@example.com>", "damaged encoded word"),
        (" =?utf-8?Q?=4?= <a@example.com>", "damaged encoded word"),
        (" =?utf-8?B?abc <a@example.com>", "damaged encoded word"),
        // Comments.
        (" <admin@legit.example>(<a@example.com>)", "behind the address"),
        (" (<admin@legit.example>) <a@example.com>", "comment"),
        (" admin@legit.example(a)@example.com", "comment touches"),
        (" a@example.com(comment)", "comment touches"),
        (" a(comment)@example.com", "comment touches"),
        (" <a(comment)@example.com>", "comment inside"),
        (" (a (nested) comment) <a@example.com>", "comment"),
        (" (open <a@example.com>", "comment"),
        (" closed) <a@example.com>", "must be quoted"),
        (" (a\\)b) <a@example.com>", "comment"),
        (" a@example.com (Sales) more", "without brackets"),
        (" (=?utf-8?Q?=3Cadmin=40legit.example=3E?=) <a@example.com>", "hides an address"),
        // Quoting.
        (" \"a\"@example.com", "is quoted"),
        (" <\"a b\"@example.com>", "space inside"),
        (" <\"a\"@example.com>", "is quoted"),
        (" \"<admin@legit.example>\" <a@example.com>", "angle brackets"),
        (" \"admin@legit.example\\\" <x>\" <a@example.com>", "angle brackets"),
        (" \"admin@legit.example\\\" \" <a@example.com>", "backslash"),
        (" \"a\\, b\" <a@example.com>", "backslash"),
        (" \"open <a@example.com>", "not closed"),
        (" a\\ b <a@example.com>", "backslash outside"),
        // Brackets.
        (" <a@example.com", "not closed"),
        (" a@example.com>", "stray angle bracket"),
        (" <<a@example.com>>", "behind the address"),
        (" <a@example.com> b", "behind the address"),
        (" <a@example.com> <b@example.com>", "behind the address"),
        (" admin@legit.example <a@example.com>", "second address"),
        (" Admin @legit <a@example.com>", "second address"),
        // Spaces.
        (" < a@example.com>", "space inside"),
        (" <a@example.com >", "space inside"),
        (" <a @example.com>", "space inside"),
        (" a @example.com", "without brackets"),
        (" a@ example.com", "without brackets"),
        (" <a@example.com\r\n >", "space inside"),
        // Several @.
        (" a@b@example.com", "more than one @"),
        (" <admin@legit.example@example.com>", "more than one @"),
        (" @example.com", "source route"),
        (" a@", "no domain name"),
        // Domains.
        (" a@[192.0.2.1]", "address literal"),
        (" <a@[192.0.2.1]>", "address literal"),
        (" a@example..com", "no domain name"),
        (" a@example.com.", "no domain name"),
        (" a@-example.com", "no domain name"),
        (" a@exa_mple!.com", "no domain name"),
        // Local parts.
        (" .a@example.com", "plain one"),
        (" a.@example.com", "plain one"),
        (" a..b@example.com", "plain one"),
        (" <a,b@example.com>", "source route"),
        (" <a;b@example.com>", "plain one"),
        (" <a[b@example.com>", "plain one"),
        (" Shop [EU] <a@example.com>", "must be quoted"),
        (" Shop; <a@example.com>", "a group"),
        // Lines.
        (" a@example.com\r\nb@example.com", "no fold"),
        (" a@example.com\nb", "control"),
        (" a@example.com\rb", "control"),
        (" Shop\r\n \r\n <a@example.com>", "without text"),
        (" Shop\r\n\r\n <a@example.com>", "no fold"),
        // Characters.
        (" a\0@example.com", "control"),
        (" a@example.com\0", "control"),
        (" \u{7f}a@example.com", "control"),
        (" Shop\u{200b} <a@example.com>", "invisible"),
        (" \u{202e}pohs <a@example.com>", "invisible"),
        (" a\u{ad}@example.com", "invisible"),
        (" \u{feff}a@example.com", "invisible"),
    ] {
        check(field.as_bytes(), Err(reason));
    }
    check(b" B\xfccher <a@example.com>", Err("not UTF-8"));
    check(b" \x93\xfa\x96{ <a@example.com>", Err("not UTF-8"));
    let long = format!(" {}@example.com", "a".repeat(65));
    check(long.as_bytes(), Err("plain one"));
}

#[test]
fn there_must_be_exactly_one_field() {
    let none: [&[u8]; 0] = [];
    let refusal = read_author(&none).expect_err("none");
    assert!(refusal.text.contains("no From field"), "{refusal}");
    let refusal = read_author(&[" a@example.com", " a@example.com"]).expect_err("two");
    assert!(refusal.text.contains("more than one From field"), "{refusal}");
}

/// An oracle that knows less: whatever is accepted has exactly one `@` outside of quotes and
/// comments, and the part behind it is the domain.
#[test]
fn what_is_accepted_holds_one_address() {
    use proptest::prelude::*;
    let pieces = [
        "a",
        "b.c",
        "@",
        "example.com",
        "legit.example",
        "<",
        ">",
        "\"",
        "(",
        ")",
        ",",
        ";",
        ":",
        " ",
        "\r\n ",
        "\\",
        "=?utf-8?Q?x?=",
        "ü",
        "\t",
        "[",
        "]",
    ];
    let field = prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..12);
    let mut runner = proptest::test_runner::TestRunner::default();
    let outcome = runner.run(&field, |pieces| {
        let field = pieces.concat();
        let Ok(author) = read_author(&[&field]) else { return Ok(()) };
        let bare = without_quotes_and_comments(&field);
        prop_assert_eq!(bare.matches('@').count(), 1, "{:?}", field);
        let (_, behind) = bare.split_once('@').unwrap_or_default();
        let behind: String =
            behind.chars().take_while(|c| !matches!(c, '>' | ' ' | '\t' | '\r')).collect();
        let canonical = canonical_domain(&behind).map(std::borrow::Cow::into_owned);
        prop_assert_eq!(canonical.as_deref(), Some(author.domain()), "{:?}", field);
        Ok(())
    });
    outcome.expect("holds for all");
}

fn without_quotes_and_comments(field: &str) -> String {
    let mut bare = String::new();
    let (mut in_quotes, mut depth) = (false, 0_u32);
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_quotes => drop(chars.next()),
            '"' if depth == 0 => in_quotes = !in_quotes,
            _ if in_quotes => {}
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => bare.push(c),
            _ => {}
        }
    }
    bare
}
