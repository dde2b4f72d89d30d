//! The page of `tidings dev` in a headless browser.

use std::net::TcpListener;
use std::process::Command;

use serde_json::json;

use crate::browser::Browser;
use crate::hub::{Launch, TestHub};

const BOOK: &str = "https://example.com/books/1";

/// How `tidings dev` is started beside others.
pub(crate) fn dev(listen: &str) -> Launch {
    let arguments = ["dev", "--listen", listen].map(str::to_owned).to_vec();
    let environment = vec![("TIDINGS_ADMIN_LISTEN".to_owned(), "127.0.0.1:0".to_owned())];
    Launch { arguments: Some(arguments), environment, ..Launch::default() }
}

/// A hub in development mode and its page, connected.
fn open() -> (TestHub, Browser) {
    open_on("127.0.0.1:0")
}

fn open_on(listen: &str) -> (TestHub, Browser) {
    let hub = TestHub::launch(dev(listen));
    let browser = Browser::open();
    browser.go(&format!("http://{}/", hub.address));
    connected(&browser);
    (hub, browser)
}

fn connected(browser: &Browser) {
    browser.wait_until("document.querySelector('#state-text').innerText === 'Connected'");
}

/// Waits until an update with this data is the newest on the page.
#[track_caller]
fn arrived(browser: &Browser, data: &str) {
    let data = json!(data);
    browser.wait_until(&format!("document.querySelector('#list .data')?.textContent === {data}"));
}

/// The token that the page has.
pub(crate) fn token(hub: &TestHub) -> String {
    hub.get("/.well-known/tidings/dev-token", &[]).expect(200).text()
}

#[test]
fn what_the_form_publishes_appears_as_text_with_its_id_and_type() {
    let (_hub, browser) = open();
    let data = "<img src=x onerror=\"document.title='taken'\"> & <b>bold</b>";
    browser.fill("#topic", BOOK);
    browser.fill("#data", data);
    browser.fill("#type", "<i>order</i>");
    browser.fill("#id", "urn:example:<u>1</u>");
    browser.click("#private");
    // Ctrl + Enter in the data publishes.
    browser.type_into("#data", "\u{e009}\u{e007}");
    arrived(&browser, data);
    assert_eq!(browser.text("#list .type"), "<i>order</i>");
    assert_eq!(browser.text("#list .id"), "urn:example:<u>1</u>");
    assert_eq!(browser.text("#last"), "urn:example:<u>1</u>");
    browser.wait_until("document.querySelector('#receipt').innerText.startsWith('Stored')");
    assert_eq!(browser.text("#receipt"), "Stored (fsync): urn:example:<u>1</u>");
    assert_eq!(browser.run("return document.querySelectorAll('#list :is(img,b,i,u)').length"), 0);
    assert_eq!(browser.run("return document.title"), "Tidings: development hub");

    // JSON is indented, and no number is rounded by it.
    browser.fill("#data", r#"{"n":12345678901234567890,"list":[1,{}],"path":"\/a"}"#);
    browser.click("#publish button");
    arrived(
        &browser,
        "{\n  \"n\": 12345678901234567890,\n  \"list\": [\n    1,\n    {}\n  ],\n  \
         \"path\": \"\\/a\"\n}",
    );
    assert_eq!(browser.text("#count"), "2");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn every_way_to_subscribe_shows_what_it_matches() {
    let (hub, browser) = open();
    let token = token(&hub);
    for (turn, (kind, pattern, who, how)) in [
        ("match", BOOK, "token", "fetch"),
        ("match", BOOK, "anonymous", "fetch"),
        ("match_urlpattern", "https://example.com/:kind/1", "token", "fetch"),
        ("match_urlpattern", "https://example.com/:kind/1", "anonymous", "eventsource"),
        ("topic", "https://example.com/{kind}/1", "token", "fetch"),
        ("topic", "https://example.com/{kind}/1", "anonymous", "fetch"),
        ("topic", "https://example.com/{kind}/1", "token", "eventsource"),
        ("match", BOOK, "token", "eventsource"),
    ]
    .into_iter()
    .enumerate()
    {
        browser.choose("#kind", kind);
        browser.choose("#who", who);
        browser.choose("#how", how);
        browser.fill("#patterns", pattern);
        browser.click("#connect");
        connected(&browser);
        // Only the holder of a token reads what is private; the next one shows who does not.
        let private = format!("private {turn}");
        let (public, typed) = (format!("public {turn}"), format!("typed {turn}"));
        let elsewhere = [("topic", "https://example.com/other/2"), ("data", "elsewhere")];
        hub.publish_with(&token, &elsewhere).expect(200);
        let fields = [("topic", BOOK), ("data", &private), ("private", "on")];
        hub.publish_with(&token, &fields).expect(200);
        hub.publish_with(&token, &[("topic", BOOK), ("data", &public)]).expect(200);
        arrived(&browser, &public);
        let texts = browser.text("#list");
        assert!(!texts.contains("elsewhere"), "{kind} {who} {how}");
        assert_eq!(texts.contains(&private), who == "token", "{kind} {who} {how}");
        let fields = [("topic", BOOK), ("data", &typed), ("type", "order")];
        if how == "fetch" {
            hub.publish_with(&token, &fields).expect(200);
            arrived(&browser, &typed);
        }
    }

    // EventSource shows types that it was told to listen for.
    browser.fill("#types", "sale order");
    browser.click("#connect");
    connected(&browser);
    let fields = [("topic", BOOK), ("data", "of a type"), ("type", "order")];
    hub.publish_with(&token, &fields).expect(200);
    arrived(&browser, "of a type");

    // And the history, from its beginning and after an id.
    browser.choose("#how", "fetch");
    browser.choose("#kind", "all");
    browser.choose("#start", "earliest");
    browser.click("#clear");
    browser.click("#connect");
    arrived(&browser, "of a type");
    browser.wait_until(
        "document.querySelector('#list').lastElementChild.innerText.includes('elsewhere')",
    );
    let id = hub.publish_with(&token, &[("topic", BOOK), ("data", "last but one")]).text();
    hub.publish_with(&token, &[("topic", BOOK), ("data", "last")]).expect(200);
    arrived(&browser, "last");
    browser.choose("#start", "after");
    browser.fill("#cursor", &id);
    browser.click("#clear");
    browser.click("#connect");
    arrived(&browser, "last");
    assert_eq!(browser.text("#count"), "1");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn the_same_subscription_over_both_protocols_shows_the_same_side_by_side() {
    let (hub, browser) = open();
    let token = token(&hub);
    browser.choose("#kind", "match_urlpattern");
    browser.fill("#patterns", "https://example.com/:kind/1");
    browser.click("#tab-socket");
    connected(&browser);
    browser.wait_until("document.querySelector('#socket-state-text').innerText === 'Connected'");
    for (topic, data) in [(BOOK, "1"), ("https://example.com/2", "not shown"), (BOOK, "<b>2</b>")] {
        let fields = [("topic", topic), ("data", data), ("private", "on")];
        hub.publish_with(&token, &fields).expect(200);
    }
    arrived(&browser, "<b>2</b>");
    browser.wait_until("document.querySelectorAll('#socket-list .id').length === 2");
    let ids = |list: &str| {
        browser.run(&format!(
            "return [...document.querySelectorAll('{list} .id')].map((it) => it.textContent)"
        ))
    };
    assert_eq!(ids("#list").as_array().unwrap().len(), 2);
    assert_eq!(ids("#socket-list"), ids("#list"));
    assert_eq!(browser.text("#socket-list .data"), "<b>2</b>");
    browser.click("#tab-stream");
    assert_eq!(browser.run("return document.querySelector('#socket').hidden"), true);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_restart_of_the_hub_loses_and_repeats_nothing_on_the_page() {
    // The page and its token are for one port: the hub has to come back on it.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let (hub, browser) = open_on(&listen);
    let token = token(&hub);
    hub.publish_with(&token, &[("topic", BOOK), ("data", "before")]).expect(200);
    arrived(&browser, "before");
    let hub = hub.restart_with(dev(&listen));
    // The key is kept, so the token still holds; the page is away when this is published.
    hub.publish_with(&token, &[("topic", BOOK), ("data", "meanwhile")]).expect(200);
    arrived(&browser, "meanwhile");
    connected(&browser);
    hub.publish_with(&token, &[("topic", BOOK), ("data", "after")]).expect(200);
    arrived(&browser, "after");
    assert_eq!(browser.text("#count"), "3");
}

#[test]
fn refusals_are_explained_where_they_happen() {
    let (_hub, browser) = open();
    browser.fill("#topic", "*");
    browser.click("#publish button");
    browser.wait_until("document.querySelector('#receipt').dataset.kind === 'bad'");
    assert!(browser.text("#receipt").starts_with("400 "), "{}", browser.text("#receipt"));
    browser.choose("#kind", "match_urlpattern");
    browser.fill("#patterns", "https://example.com/:(");
    browser.click("#connect");
    browser.wait_until("document.querySelector('#state').dataset.state === 'refused'");
    let state = browser.text("#state-text");
    assert!(state.starts_with("Refused: 400 "), "{state}");
    // The token in the URL is 0.x, which has no URL patterns: the form says so and sends nothing.
    browser.choose("#how", "eventsource");
    browser.click("#connect");
    assert_eq!(browser.run("return document.querySelector('#how').validity.customError"), true);
    assert_eq!(browser.text("#state-text"), state);
}

#[test]
fn the_terminal_lines_do_what_the_forms_say() {
    let (hub, browser) = open();
    let data = "it's $HOME `id` \"quoted\" \\ & more";
    browser.fill("#topic", &format!("{BOOK}?a=b&c=d"));
    browser.fill("#data", data);
    let line = browser.run("return document.querySelector('#curl-publish').textContent");
    let output =
        Command::new("timeout").args(["20", "sh", "-c", line.as_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    arrived(&browser, data);
    assert_eq!(browser.text("#list .id"), String::from_utf8_lossy(&output.stdout));

    browser.choose("#start", "earliest");
    let line = browser.run("return document.querySelector('#curl-subscribe').textContent");
    // Whoever subscribes to everything hears of subscribers, too.
    let line = format!("timeout 20 {} | grep -m1 '^data.*HOME'", line.as_str().unwrap());
    let mut child = Command::new("sh")
        .args(["-c", &line])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut { output }, &mut first).unwrap();
    assert_eq!(first.trim_end().trim_start_matches("data:").trim_start(), data);
    // Another update makes curl notice that nobody reads any more.
    hub.publish_with(&token(&hub), &[("topic", BOOK), ("data", "end")]).expect(200);
    child.wait().unwrap();
}

#[test]
fn everything_has_a_name_a_contrast_and_a_place_on_a_small_screen() {
    let (_hub, browser) = open();
    browser.click("#publish button");
    browser.wait_until("document.querySelector('#receipt').innerText !== ''");
    browser.run("document.querySelector('details').open = true");
    let nameless = "return [...document.querySelectorAll('input,select,textarea,button')].filter(
        (it) => !(it.labels?.length || it.ariaLabel || it.innerText)).map((it) => it.id)";
    assert_eq!(browser.run(nameless), json!([]));
    for theme in ["light", "dark"] {
        browser.run(&format!("document.documentElement.dataset.theme = {theme:?}"));
        assert_eq!(browser.run(LOW_CONTRAST), json!([]), "{theme}");
    }
    let own = "return performance.getEntriesByType('resource').map((it) => it.name)
        .filter((name) => !name.startsWith(location.origin))";
    assert_eq!(browser.run(own), json!([]));
    browser.resize(400, 800);
    let overflow = "return [...document.body.querySelectorAll('main, .card, form')].filter(
        (it) => it.scrollWidth > it.clientWidth + 1).map((it) => it.id || it.className)";
    assert_eq!(browser.run(overflow), json!([]));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, 1.4.3).
const LOW_CONTRAST: &str = r#"
    const parts = (text) => text.match(/[\d.]+/g).map(Number);
    const light = (text) => parts(text).slice(0, 3).map((it) => it / 255)
        .map((it) => it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4)
        .reduce((sum, it, index) => sum + it * [0.2126, 0.7152, 0.0722][index], 0);
    const behind = (it) => {
        for (; it; it = it.parentElement) {
            const color = getComputedStyle(it).backgroundColor;
            if ((parts(color)[3] ?? 1) === 1) return color;
        }
        return "rgb(255, 255, 255)";
    };
    const low = [];
    for (const it of document.querySelectorAll("body *")) {
        const own = [...it.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || it.disabled || !it.checkVisibility()) continue;
        const pair = [light(getComputedStyle(it).color), light(behind(it))].sort((a, b) => b - a);
        const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
        if (contrast < 4.5) low.push(`${it.tagName} ${it.id} ${it.className} ${contrast}`);
    }
    return low;
"#;

#[test]
fn the_stream_is_understood_in_whatever_pieces_it_comes() {
    let (_hub, browser) = open();
    let parsed = browser.run_async(
        r#"const { EventParser } = await import("/stream.js");
        const text = "\ufeff:hello\r\nid: 1\ndata: a\rdata:b\r\n\r\nevent: x\ndata\n\n" +
            "id\ndata:  c\n\nretry: 12\nretry: 1x\nid: n\0l\ndata: \u00e9\n\ndata: cut off\n";
        const all = new Set();
        for (let size = 1; size <= text.length; size += 1) {
            const seen = [];
            const parser = new EventParser((it) => seen.push(it), (it) => seen.push(it));
            for (let at = 0; at < text.length; at += size) parser.feed(text.slice(at, at + size));
            all.add(JSON.stringify(seen));
        }
        return [...all];"#,
    );
    let expected = concat!(
        r#"[{"id":"1","type":"","data":"a\nb"},{"id":"1","type":"x","data":""},"#,
        r#"{"id":"","type":"","data":" c"},12,{"id":"","type":"","data":"é"}]"#,
    );
    assert_eq!(parsed, json!([expected]));
}
