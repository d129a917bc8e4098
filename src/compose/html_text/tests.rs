//! What a reader gets of each kind of HTML, and that nothing hostile takes long.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn words_come_out_with_one_space_between_two(
        units in proptest::collection::vec("[ a-z]{0,40}|[a-z \t\n\r\x0b\x0c\u{a0}\u{a9}\u{e0}\u{2003}]{1,4}", 0..12)
    ) {
        let text = units.concat();
        let words: Vec<&str> = text.split(is_space).filter(|word| !word.is_empty()).collect();
        let wanted = words.join(" ");
        prop_assert_eq!(html_to_text(&text), wanted.trim_end());
    }
}

#[test]
fn a_typical_wallet_mail_reads_well() {
    let html = include_str!("../../../tests/mime/wallet.html");
    let wanted = include_str!("../../../tests/mime/wallet.txt");
    assert_eq!(html_to_text(html), wanted.trim_end());
}

#[test]
fn each_element_becomes_what_a_reader_expects() {
    for (html, text) in [
        ("", ""),
        ("plain", "plain"),
        ("<p>a</p><p>b</p>", "a\n\nb"),
        ("<p>a</p>\n\n<p></p><div> </div><p>&nbsp;</p>\n<p>b", "a\n\nb"),
        ("<div>a</div><div>b</div>", "a\nb"),
        ("a<br>b<br/>c<br><br><br>d", "a\nb\nc\n\nd"),
        ("  a \n\t b&nbsp;&nbsp;c  ", "a b c"),
        ("<h1>T</h1>x", "T\n\nx"),
        ("<ul><li>a<li><p>b</p></li><li></li></ul>c", "- a\n\n- b\n\nc"),
        ("<a href='https://x.example/p?a=1&amp;b=2'>Open</a>.", "Open (https://x.example/p?a=1&b=2)."),
        ("<a href='https://x.example/'>x.example</a>", "x.example"),
        ("<a href='https://x.example/'>https://x.example</a>", "https://x.example"),
        ("<a href='#top'>up</a> <a>none</a> <a href='javascript:x()'>js</a>", "up none js"),
        ("<a href='mailto:a@b.example?subject=x'>a@b.example</a>", "a@b.example"),
        ("<a href='mailto:a@b.example'>Write</a>", "Write (a@b.example)"),
        ("<a href='tel:+331'>+33 1</a>", "+33 1"),
        ("<a href='https://x.example'><img src=a></a>", "https://x.example"),
        ("<a href='https://x.example'><img src=a alt='Add to Wallet'></a>", "Add to Wallet (https://x.example)"),
        ("<a href='https://x.example'>a<p>b</p></a>c", "a\n\nb (https://x.example)\n\nc"),
        (
            "<a href=https://x.example>one<a href=https://y.example>two",
            "one (https://x.example)two (https://y.example)",
        ),
        (
            "<table><tr><td>Points<td>1,200</td></tr><tr><th>Tier</th><td>Gold</td></tr></table>",
            "Points  1,200\nTier  Gold",
        ),
        ("<title>t</title><style>p>a{}</style><script>if(a<b)'</p>'</script>x", "x"),
        ("<head><title>a</title><body>b", "b"),
        ("a<template>b<template>c</template>d</template>e", "ae"),
        ("a<noscript><p>b</p></noscript>c", "ac"),
        ("<div style='color:red; DISPLAY : none !important'>pre<div>header</div></div>a", "a"),
        ("<p style='font-family:x;dISPLAY:NONE'>x</p><p style='display:inline'>y</p><p style='y'>z", "y\n\nz"),
        ("<span hidden>x</span>a<img style='display:none' alt=z>b", "azb"),
        ("<p style='display:none'>x<div>y</div>", "y"),
        ("&eacute;&#233;&#xe9;&lt;b&gt;&amp;&notin;&unknown;", "ééé<b>&∉&unknown;"),
        ("<pre>  a\n    b\n\n\n\nc</pre>d", "  a\n    b\n\nc\n\nd"),
        ("a<hr>b", "a\n\n---\n\nb"),
        ("<!-- c > d -->a<!doctype html>b<?php x ?>c", "abc"),
        ("<!--[if mso]><p>outlook</p><![endif]-->a", "a"),
        ("a < b <3 <", "a < b <3 <"),
        ("<svg><title/><style/></svg>a", "a"),
        ("a\0b\u{feff}", "ab\u{feff}"),
        ("</p></div></a></li></pre></template>a", "a"),
        ("<b>un</b>broken", "unbroken"),
    ] {
        assert_eq!(html_to_text(html), text, "{html}");
    }
}

#[test]
fn a_million_of_anything_takes_no_stack_and_little_time() {
    let nested = format!("{}deep{}", "<div>".repeat(1_000_000), "</div>".repeat(1_000_000));
    assert_eq!(html_to_text(&nested), "deep");
    let attributes: Vec<String> = (0..1_000_000).map(|number| format!("a{number:x}")).collect();
    assert_eq!(html_to_text(&format!("before<a {}>", attributes.join(" "))), "before");
    assert_eq!(html_to_text(&"<a href=x>".repeat(1_000_000)), "x".repeat(1_000_000));
    for (unit, text) in
        [("<!--", ""), ("-", "-"), ("<!-- -->", ""), ("<style>", ""), ("<a b='", ""), ("</", ""), ("<", "<")]
    {
        assert_eq!(html_to_text(&unit.repeat(1_000_000)), text.repeat(1_000_000).trim(), "{unit}");
    }
    assert_eq!(html_to_text(&format!("<!--{}-->a", "-".repeat(1_000_000))), "a");
    let entities = "&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".repeat(30_000);
    assert_eq!(html_to_text(&entities), entities);
}
