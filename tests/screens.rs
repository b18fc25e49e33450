//! What people see on a terminal, 80 and 140 columns wide, with and without colour, as a terminal shows it in the end:
//! golden pictures in `tests/screens/`. Colours are written `{green …}`, what differs from run to run is masked in its
//! own width.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::Path;
use std::process::Stdio;

use crate::cli::Lab;
use crate::support::command::Countersign;
use crate::support::golden::{golden, mask, root};
use crate::support::process::guarded;

/// A certificate that is had, and one whose name nobody knows.
const TWO: &str = "  api: {names: [api.test, \"*.api.test\"], deliver: [web1]}
  shop-of-the-elder: {names: [shop.example]}
targets: {web1: {files: {directory: out}}}
";
/// Columns.
const WIDTHS: [u16; 2] = [80, 140];
/// Higher than anything that is printed, so that nothing scrolls away.
const ROWS: u16 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn every_picture_is_as_it_was_judged() {
    let lab = Lab::start(TWO).await;
    for width in WIDTHS {
        for (colour, has_colour) in [("plain", false), ("colour", true)] {
            for (name, command) in [
                ("renew", "renew --force"),
                ("status", "status"),
                ("status-one", "status api"),
                ("status-failing", "status shop-of-the-elder"),
                ("plan", "plan"),
            ] {
                let seen = picture(&lab.program, command, width, 30, has_colour);
                let file = format!("tests/screens/{name}-{width}-{colour}.txt");
                golden(&root().join(file), &seen);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_picture_of_a_history_is_as_it_was_judged() {
    let only = "  shop-of-the-elder: {names: [shop.example]}\n";
    let lab = Lab::start(only).await;
    lab.program.run(&["renew"]).expect_code(1);
    for width in WIDTHS {
        for (colour, has_colour) in [("plain", false), ("colour", true)] {
            let command = "history shop-of-the-elder";
            let seen = picture(&lab.program, command, width, 30, has_colour);
            let file = format!("tests/screens/history-{width}-{colour}.txt");
            golden(&root().join(file), &seen);
        }
    }
}

/// Its steps come in an order of their own each time, some of them more than once: each stands there once, by its words.
#[test]
fn the_picture_of_the_demo_is_as_it_was_judged() {
    let program = Countersign::new("");
    for width in WIDTHS {
        for (colour, has_colour) in [("plain", false), ("colour", true)] {
            let seen = picture(&program, "demo --once", width, 30, has_colour);
            let (mut before, mut steps, mut after) = (Vec::new(), BTreeSet::new(), Vec::new());
            for line in seen.lines() {
                let ends = [" ms  ", " ms}  "];
                match ends
                    .iter()
                    .find_map(|end| Some((line.split_once(end)?.1, end)))
                {
                    Some((step, end)) => drop(steps.insert(format!("   #{end}{step}"))),
                    None if steps.is_empty() => before.push(line.to_owned()),
                    None => after.push(line.to_owned()),
                }
            }
            before.extend(steps);
            before.extend(after);
            let file = format!("tests/screens/demo-{width}-{colour}.txt");
            golden(&root().join(file), &(before.join("\n") + "\n"));
        }
    }
}

/// What a terminal shows when `command` has ended.
pub(crate) fn picture(
    program: &Countersign,
    command: &str,
    width: u16,
    rows: u16,
    has_colour: bool,
) -> String {
    let terminal = terminal(program, command, width, rows, has_colour);
    let screen = terminal.screen();
    let rows: Vec<String> = (0..ROWS).map(|row| row_of(screen, row, width)).collect();
    let text = rows.join("\n");
    masked(&format!("{}\n", text.trim_end()))
}

/// The terminal when `command` has ended.
fn terminal(
    program: &Countersign,
    command: &str,
    width: u16,
    rows: u16,
    has_colour: bool,
) -> vt100::Parser {
    let line = format!(
        "stty cols {width} rows {rows}; {} --config {} {command}",
        env!("CARGO_BIN_EXE_countersign"),
        program.config().display()
    );
    let mut script = guarded(Path::new("/usr/bin/script"));
    script
        .args(["-qec", &line, "/dev/null"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TERM", "xterm-256color")
        .env("NO_COLOR", if has_colour { "" } else { "1" })
        .stdin(Stdio::null());
    let output = script.output().unwrap();
    let size = [ROWS, width].map(|it| NonZero::new(it).unwrap());
    let mut terminal = vt100::Parser::new(size[0], size[1], 0);
    terminal.process(&output.stdout);
    terminal
}

/// A row with its colours named.
fn row_of(screen: &vt100::Screen, row: u16, width: u16) -> String {
    let mut text = String::new();
    let mut style = String::new();
    for column in 0..width {
        let Some(cell) = screen.cell(row, column) else {
            continue;
        };
        let now = match cell.has_contents() && cell.contents() != " " {
            true => style_of(cell),
            // Of a space nobody sees the colour.
            false => style.clone(),
        };
        if now != style {
            let end = if style.is_empty() { "" } else { "}" };
            let spaces = text.len() - text.trim_end().len();
            text.insert_str(text.len() - spaces, end);
            if !now.is_empty() {
                text += &format!("{{{now} ");
            }
            style = now;
        }
        text += match cell.has_contents() {
            true => cell.contents(),
            false => " ",
        };
    }
    let text = text.trim_end().to_owned();
    match style.is_empty() {
        true => text,
        false => format!("{text}}}"),
    }
}

fn style_of(cell: &vt100::Cell) -> String {
    let colour = match cell.fgcolor() {
        vt100::Color::Default => "",
        vt100::Color::Idx(1) => "red",
        vt100::Color::Idx(2) => "green",
        vt100::Color::Idx(3) => "yellow",
        vt100::Color::Idx(6) => "cyan",
        other => panic!("{other:?}"),
    };
    let weight = match (cell.bold(), cell.dim()) {
        (true, _) => "bold",
        (_, true) => "faint",
        _ => "",
    };
    let both: Vec<&str> = [weight, colour]
        .into_iter()
        .filter(|it| !it.is_empty())
        .collect();
    both.join(" ")
}

/// What differs from run to run, in its own width.
fn masked(text: &str) -> String {
    let words = text.split_inclusive([' ', '\n']);
    let words = words.map(|word| without_chance(&without_digests(word)));
    let text: String = words.collect();
    let patterns = [
        ("9999-99-99", "YYYY-MM-DD"),
        ("T99:99:99.999Z", "Thh:mm:ss.mmmZ"),
        ("99:99:99", "hh:mm:ss"),
        ("99:99", "hh:mm"),
        ("127.0.0.1:99999", "127.0.0.1:PPPPP"),
        ("9999999999999", "GENERATION..."),
        ("9999999999", "SERIAL...."),
        ("9.99 s", "#.## s"),
        ("99.9 s", "#.# s"),
        ("9.9 s", "#.# s"),
        ("in 99 s", "in 60 s"),
    ];
    patterns
        .iter()
        .fold(text, |text, (pattern, with)| mask(&text, pattern, with))
}

/// A digest keeps its width; serials differ in theirs.
fn without_digests(word: &str) -> String {
    let bare = word.trim_end();
    let end = &word[bare.len()..];
    match bare.len() {
        24.. if !bare.bytes().all(|b| b.is_ascii_hexdigit()) => word.to_owned(),
        64 => format!("{}{end}", "x".repeat(64)),
        24.. => format!("SERIAL{end}"),
        _ => word.to_owned(),
    }
}

/// The end of a directory's name that was drawn.
fn without_chance(word: &str) -> String {
    let drawn = "countersign-demo-";
    match word.split_once(drawn) {
        Some((before, name)) if name.len() >= 6 => format!("{before}{drawn}XXXXXX{}", &name[6..]),
        _ => word.to_owned(),
    }
}
