//! A headless Chromium, spoken to by the WebDriver protocol over plain HTTP. Knows no page.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::http;

/// The name under which WebDriver hands out an element (W3C WebDriver section 11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One window with a profile of its own. Dropping it closes the browser.
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
}

type Lines = std::io::Lines<BufReader<ChildStdout>>;

/// A driver, what it goes on to say, and its port; `None` when it ended without one.
fn driver() -> Option<(Child, Lines, u16)> {
    let mut driver = Command::new("chromedriver")
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromedriver runs (Debian's chromium-driver; scripts/test installs it)");
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
        line.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok()
    });
    if port.is_none() {
        let _ = driver.kill();
        let _ = driver.wait();
    }
    Some((driver, lines, port?))
}

impl Browser {
    /// A window of 1360 × 960, in light colours, that reaches loopback addresses only.
    pub(crate) fn open() -> Browser {
        // The free port that it chose for one family of addresses may be taken in the other.
        let started = (0..5).find_map(|_| driver());
        let (driver, lines, port) = started.expect("chromedriver says its port");
        // Whoever stops reading makes the driver stop at its next line.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut browser = Browser { driver, address, session: String::new() };
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1360,960",
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        }}});
        let session = browser.ask("POST", "/session", &wanted);
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        browser
    }

    /// Loads a page and waits until it is loaded.
    #[track_caller]
    pub(crate) fn go(&self, url: &str) {
        self.command("/url", &json!({ "url": url }));
    }

    /// Makes the window this large, in CSS pixels.
    #[track_caller]
    pub(crate) fn resize(&self, width: u32, height: u32) {
        self.command("/window/rect", &json!({ "width": width, "height": height }));
    }

    /// Runs the body of a function in the page and gives what it returns.
    #[track_caller]
    pub(crate) fn run(&self, script: &str) -> Value {
        self.command("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs the body of an `async` function in the page and gives what it returns.
    #[track_caller]
    pub(crate) fn run_async(&self, script: &str) -> Value {
        let script = format!(
            "const done = arguments[0];
            (async () => {{ {script} }})().then(done, (error) => done('failed: ' + error));"
        );
        self.command("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression holds in the page; says no with the page's text if it never does.
    #[track_caller]
    pub(crate) fn wait_until(&self, expression: &str) {
        // Ends before the HTTP exchange that carries it does.
        let milliseconds = (http::PATIENCE * 3 / 4).as_millis();
        let held = self.run_async(&format!(
            "for (const end = Date.now() + {milliseconds}; Date.now() < end;) {{
                if ({expression}) return true;
                await new Promise((next) => setTimeout(next, 10));
            }}
            return false;"
        ));
        if held != true {
            panic!(
                "never held: {expression}\n{held}\n{}",
                self.run("return document.body.innerText")
            );
        }
    }

    /// Types into the element that a CSS selector finds, as a keyboard would.
    #[track_caller]
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Replaces what a field contains.
    #[track_caller]
    pub(crate) fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command(&format!("/element/{element}/clear"), &json!({}));
        self.command(&format!("/element/{element}/value"), &json!({ "text": text }));
    }

    /// Chooses the option with this value.
    #[track_caller]
    pub(crate) fn choose(&self, selector: &str, value: &str) {
        self.click(&format!("{selector} option[value={value:?}]"));
    }

    /// Clicks, as a mouse would: fails if something lies above it.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.command(&format!("/element/{element}/click"), &json!({}));
    }

    /// The visible text of an element.
    #[track_caller]
    pub(crate) fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({selector:?}).innerText");
        self.run(&script).as_str().unwrap().to_owned()
    }

    /// What the browser complained about since the last call: errors, violated policies.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.command("/se/log", &json!({ "type": "browser" }));
        log.as_array().unwrap().iter().map(|entry| entry["message"].to_string()).collect()
    }

    #[track_caller]
    fn element(&self, selector: &str) -> String {
        let found = json!({ "using": "css selector", "value": selector });
        self.command("/element", &found)[ELEMENT].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn command(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), body)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let headers = [("Content-Type", "application/json")];
        let request = http::request(method, path, &headers, body.to_string().as_bytes());
        let reply = http::exchange(self.address, &request);
        let value = reply.json()["value"].clone();
        assert_eq!(reply.status, 200, "{path}: {} {}", value["error"], value["message"]);
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let request = http::request("DELETE", &self.session, &[], b"");
            // The driver may be gone already when a test fails.
            let _ = std::panic::catch_unwind(|| http::exchange(self.address, &request));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
