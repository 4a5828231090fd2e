//! What happens to a container's logs, as data: each case is a sentence, what is done, and what has to come out.

use std::fs;

use super::*;

/// Something that is done to a container's directory, or to the agent.
#[derive(Clone, Copy, Debug)]
enum Do {
    /// Appends a line of this time (so that first lines can be told apart, or be equal), output, tag and message.
    Write(&'static str, u32, &'static str, &'static str, &'static str),
    /// Makes an empty log.
    Touch(&'static str),
    /// Renames, as kubelet does and logrotate.
    Rename(&'static str, &'static str),
    Remove(&'static str),
    /// Compresses as kubelet does: into a temporary file that is renamed; the original is removed.
    Compress(&'static str),
    /// The same by a kubelet that dies before it removes the original.
    CompressHalf(&'static str),
    /// Cuts a log in its place.
    Cut(&'static str),
    /// Lets the agent work for so many seconds; what it read is on the disk afterwards.
    Work(u64),
    /// The agent reads what there is and is killed before any of it is on the disk.
    Crash,
    /// No agent runs from here on …
    Down,
    /// … up to here.
    Up,
}
use Do::*;

const LIVE: &str = "0.log";
const A: &str = "0.log.20260310-154815";
const B: &str = "0.log.20260310-154816";
const TMP: &str = "0.log.20260310-154815.tmp";

const fn out(log: &'static str, time: u32, message: &'static str) -> Do {
    Write(log, time, "stdout", "F", message)
}

const fn part(log: &'static str, time: u32, message: &'static str) -> Do {
    Write(log, time, "stdout", "P", message)
}

const fn err(log: &'static str, time: u32, message: &'static str) -> Do {
    Write(log, time, "stderr", "F", message)
}

const CASES: &[(&str, &[Do], &[&str])] = &[
    (
        "Generations are read oldest first, whatever their form.",
        &[out(A, 1, "a"), Compress(A), out(B, 2, "b"), out(LIVE, 3, "c"), out("1.log", 4, "d"), Up, Work(2)],
        &["a", "b", "c", "d"],
    ),
    ("Kubelet's temporary file is none of the log's.", &[out(TMP, 1, "no"), out(LIVE, 2, "yes"), Up, Work(2)], &["yes"]),
    (
        "Kubelet renames a log back where the runtime does not open it anew.",
        &[Up, out(LIVE, 1, "a"), Work(1), Rename(LIVE, A), out(A, 2, "b"), Work(1), Rename(A, LIVE), out(LIVE, 3, "c"), Work(3)],
        &["a", "b", "c"],
    ),
    (
        "The same while the agent is down.",
        &[Up, out(LIVE, 1, "a"), Work(1), Rename(LIVE, A), Work(1), Down, out(A, 2, "b"), Rename(A, LIVE), Up, out(LIVE, 3, "c"), Work(3)],
        &["a", "b", "c"],
    ),
    (
        "Rotated, renamed back and rotated again between two looks.",
        &[Up, out(LIVE, 1, "a"), Work(1), Rename(LIVE, A), out(A, 2, "b"), Rename(A, LIVE), Rename(LIVE, B), out(LIVE, 3, "c"), Work(3)],
        &["a", "b", "c"],
    ),
    (
        "A record begins at the end of one generation and ends in the next, with the other output in between, and the agent is killed in between.",
        &[
            Up,
            part(LIVE, 1, "be"),
            err(LIVE, 2, "x"),
            Work(1),
            Rename(LIVE, A),
            err(LIVE, 3, "y"),
            Work(1),
            Down,
            Up,
            out(LIVE, 4, "gin"),
            Work(2),
        ],
        &["stderr:x", "stderr:y", "begin"],
    ),
    (
        "The same, killed before anything of it was on the disk.",
        &[Up, part(LIVE, 1, "be"), err(LIVE, 2, "x"), Rename(LIVE, A), err(LIVE, 3, "y"), out(LIVE, 4, "gin"), Crash, Work(2)],
        &["stderr:x", "stderr:y", "begin"],
    ),
    (
        "The same, compressed meanwhile.",
        &[
            Up,
            part(LIVE, 1, "be"),
            err(LIVE, 2, "x"),
            Work(1),
            Down,
            Rename(LIVE, A),
            Compress(A),
            err(LIVE, 3, "y"),
            out(LIVE, 4, "gin"),
            Up,
            Work(2),
        ],
        &["stderr:x", "stderr:y", "begin"],
    ),
    (
        "Two generations that begin with the same line are two, though neither was read before the other was there.",
        &[out(A, 1, "same"), out(A, 2, "a"), out(LIVE, 1, "same"), out(LIVE, 3, "b"), Up, Work(2)],
        &["same", "a", "same", "b"],
    ),
    (
        "The same, met one after the other, and after a start.",
        &[
            Up,
            out(LIVE, 1, "same"),
            out(LIVE, 2, "a"),
            Work(1),
            Rename(LIVE, A),
            out(LIVE, 1, "same"),
            out(LIVE, 3, "b"),
            Work(2),
            Down,
            Up,
            out(LIVE, 4, "c"),
            Work(2),
        ],
        &["same", "a", "same", "b", "c"],
    ),
    (
        "The same, word for word as long as it was read.",
        &[Up, out(LIVE, 1, "same"), Work(1), Rename(LIVE, A), out(LIVE, 1, "same"), out(LIVE, 2, "a"), Work(2), Down, Up, Work(2)],
        &["same", "same", "a"],
    ),
    (
        "A log that is cut in its place and begins with the same line is read anew.",
        &[
            Up,
            out(LIVE, 1, "same"),
            out(LIVE, 2, "long enough"),
            Work(1),
            Cut(LIVE),
            out(LIVE, 1, "same"),
            Work(1),
            out(LIVE, 3, "b"),
            Work(2),
        ],
        &["same", "long enough", "same", "b"],
    ),
    (
        "A removed log's inode may be given to the next one.",
        &[Up, out(LIVE, 1, "a"), Work(1), Remove(LIVE), out(LIVE, 2, "b"), Work(3), Down, Remove(LIVE), out(LIVE, 3, "c"), Up, Work(2)],
        &["a", "b", "c"],
    ),
    (
        "A deleted log with unread bytes goes before what is newer.",
        &[Up, out(LIVE, 1, "a"), Work(1), out(LIVE, 2, "b"), Rename(LIVE, A), Remove(A), out(LIVE, 3, "c"), Work(2)],
        &["a", "b", "c"],
    ),
    (
        "Compressed between two looks, it is read on within its text.",
        &[Up, out(LIVE, 1, "a"), Work(1), out(LIVE, 2, "b"), Rename(LIVE, A), Compress(A), out(LIVE, 3, "c"), Work(2)],
        &["a", "b", "c"],
    ),
    (
        "Compressed while the agent was down, too.",
        &[Up, out(LIVE, 1, "a"), Work(1), Down, out(LIVE, 2, "b"), Rename(LIVE, A), Compress(A), out(LIVE, 3, "c"), Up, Work(2)],
        &["a", "b", "c"],
    ),
    (
        "Where kubelet died, both forms of a log are there, and are one.",
        &[out(A, 1, "a"), CompressHalf(A), out(LIVE, 2, "b"), Up, Work(2), Remove(A), Work(90)],
        &["a", "b"],
    ),
    (
        "A log that is empty when it is met and rotated away when it is not is not passed over.",
        &[Up, Touch(LIVE), Work(1), out(LIVE, 1, "a"), Rename(LIVE, A), out(LIVE, 2, "b"), Work(2)],
        &["a", "b"],
    ),
    (
        "What a run left unfinished is given out when the next begins.",
        &[Up, part(LIVE, 1, "half"), Work(1), out("1.log", 2, "next"), Work(3)],
        &["half unterminated", "next"],
    ),
];

#[test]
fn each_case_comes_out_as_its_sentence_says() {
    let failed: Vec<String> = CASES.iter().filter_map(|case| fault_of(case).err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

fn fault_of((sentence, steps, expected): &(&str, &[Do], &[&str])) -> Result<(), String> {
    const CONFIG: &str = "type = \"kubernetes_logs\"\nroot = \"pods\"\n";
    let mut rig = Rig::new();
    let name = |log: &str| format!("pods/shop_cart_1f2e/app/{log}");
    let mut came = Vec::new();
    fs::create_dir_all(rig.path("pods/shop_cart_1f2e/app")).unwrap();
    for step in *steps {
        match *step {
            Write(log, time, output, tag, message) => {
                rig.append(&name(log), format!("2026-03-10T15:48:15.{time:09}Z {output} {tag} {message}\n"));
            }
            Touch(log) => rig.append(&name(log), ""),
            Rename(from, to) => rig.rename(&name(from), &name(to)),
            Remove(log) => fs::remove_file(rig.path(&name(log))).unwrap(),
            Compress(log) | CompressHalf(log) => {
                let text = fs::read(rig.path(&name(log))).unwrap();
                rig.append(&name(&format!("{log}.tmp")), super::pods::compress(text));
                rig.rename(&name(&format!("{log}.tmp")), &name(&format!("{log}.gz")));
                if matches!(step, Compress(_)) {
                    fs::remove_file(rig.path(&name(log))).unwrap();
                }
            }
            Cut(log) => fs::write(rig.path(&name(log)), "").unwrap(),
            Work(seconds) => came.extend(rig.pass(seconds)),
            Crash => {
                rig.drain();
                rig.start(CONFIG);
            }
            Down => rig.kill(),
            Up => rig.start(CONFIG),
        }
    }
    let came: Vec<&str> = came.iter().map(|text| text.strip_prefix("stdout:").unwrap_or(text)).collect();
    if came == *expected { Ok(()) } else { Err(format!("{sentence}\n  {came:?}\n  and not {expected:?}")) }
}
