//! Tokens and addresses: long runs of letters, digits, `_` and `-`, told by how they start, how long they are, and their
//! checksums.

use super::catalog::Detector;
use super::checks;
use super::text::{Text, is_token, is_word};

/// The fewest bytes that a run has in which something is looked for. Nothing that is found has fewer.
pub(super) const MIN_RUN_BYTES: usize = 20;

/// What tokens may be made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Letters and digits.
    Alphanumeric,
    /// Letters, digits and `_`.
    Word,
    /// Letters, digits, `_` and `-`.
    Token,
    /// Hexadecimal digits in lower case.
    Hex,
    /// Capitals and digits.
    Capitals,
}

impl Class {
    fn has(self, byte: u8) -> bool {
        match self {
            Class::Alphanumeric => byte.is_ascii_alphanumeric(),
            Class::Word => is_word(byte),
            Class::Token => is_token(byte),
            Class::Hex => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            Class::Capitals => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
        }
    }
}

/// Prefixes of tokens, what comes after them and how much of it: the fewest and the most bytes. From the providers'
/// documentation.
const TOKENS: &[(&str, Class, usize, usize)] = {
    use Class::*;
    const ANY: usize = 4096;
    &[
        ("AKIA", Capitals, 16, 16),
        ("ASIA", Capitals, 16, 16),
        ("AGPA", Capitals, 16, 16),
        ("AROA", Capitals, 16, 16),
        ("AIDA", Capitals, 16, 16),
        ("AIPA", Capitals, 16, 16),
        ("ANPA", Capitals, 16, 16),
        ("ANVA", Capitals, 16, 16),
        ("ABIA", Capitals, 16, 16),
        ("ACCA", Capitals, 16, 16),
        ("ABSK", Alphanumeric, 100, ANY),
        ("ghp_", Alphanumeric, 36, ANY),
        ("gho_", Alphanumeric, 36, ANY),
        ("ghu_", Alphanumeric, 36, ANY),
        ("ghs_", Alphanumeric, 36, ANY),
        ("ghr_", Alphanumeric, 36, ANY),
        ("github_pat_", Word, 60, ANY),
        ("glpat-", Token, 20, ANY),
        ("gldt-", Token, 20, ANY),
        ("glrt-", Token, 20, ANY),
        ("glft-", Token, 20, ANY),
        ("glsoat-", Token, 20, ANY),
        ("glcbt-", Token, 20, ANY),
        ("glptt-", Token, 20, ANY),
        ("glagent-", Token, 20, ANY),
        ("gloas-", Token, 20, ANY),
        ("glimt-", Token, 20, ANY),
        ("glffct-", Token, 20, ANY),
        ("xoxb-", Token, 16, ANY),
        ("xoxa-", Token, 16, ANY),
        ("xoxp-", Token, 16, ANY),
        ("xoxr-", Token, 16, ANY),
        ("xoxs-", Token, 16, ANY),
        ("xoxo-", Token, 16, ANY),
        ("xoxe-", Token, 16, ANY),
        ("xapp-", Token, 20, ANY),
        ("sk_live_", Alphanumeric, 12, ANY),
        ("sk_test_", Alphanumeric, 12, ANY),
        ("rk_live_", Alphanumeric, 12, ANY),
        ("rk_test_", Alphanumeric, 12, ANY),
        ("pk_live_", Alphanumeric, 12, ANY),
        ("pk_test_", Alphanumeric, 12, ANY),
        ("whsec_", Alphanumeric, 20, ANY),
        ("AIza", Token, 35, 35),
        ("GOCSPX-", Token, 20, ANY),
        ("sk-proj-", Token, 20, ANY),
        ("sk-admin-", Token, 20, ANY),
        ("sk-ant-", Token, 20, ANY),
        ("sk-svcacct-", Token, 20, ANY),
        ("sk-or-v1-", Hex, 64, 64),
        ("sk-", Alphanumeric, 32, ANY),
        ("npm_", Alphanumeric, 36, 36),
        ("pypi-", Token, 50, ANY),
        ("dop_v1_", Hex, 64, 64),
        ("doo_v1_", Hex, 64, 64),
        ("dor_v1_", Hex, 64, 64),
        ("shpat_", Hex, 32, 32),
        ("shpca_", Hex, 32, 32),
        ("shppa_", Hex, 32, 32),
        ("shpss_", Hex, 32, 32),
        ("hf_", Alphanumeric, 30, 40),
        ("dapi", Hex, 32, 32),
        ("PMAK-", Token, 50, ANY),
        ("key-", Hex, 32, 32),
        ("SK", Hex, 32, 32),
        ("lin_api_", Alphanumeric, 32, ANY),
        ("gsk_", Alphanumeric, 40, ANY),
        ("xai-", Alphanumeric, 60, ANY),
        ("r8_", Alphanumeric, 36, 40),
        ("glsa_", Word, 32, ANY),
        ("glc_", Alphanumeric, 32, ANY),
        ("dckr_pat_", Token, 24, ANY),
        ("dckr_oat_", Token, 24, ANY),
        ("rubygems_", Hex, 48, 48),
        ("NRAK-", Capitals, 24, 32),
        ("sq0atp-", Token, 20, ANY),
        ("sq0csp-", Token, 40, ANY),
        ("sgp_", Word, 40, ANY),
        ("ATATT3", Token, 60, ANY),
        ("ATBB", Alphanumeric, 28, 36),
        ("AGE-SECRET-KEY-1", Capitals, 50, 64),
        ("figd_", Token, 36, ANY),
        ("pscale_tkn_", Token, 32, ANY),
        ("pscale_pw_", Token, 32, ANY),
        ("sntrys_", Token, 40, ANY),
        ("ntn_", Alphanumeric, 40, ANY),
        ("secret_", Alphanumeric, 43, 43),
        ("EAACEdEose0cBA", Alphanumeric, 20, ANY),
        ("tskey-", Token, 20, ANY),
        ("pat-na1-", Token, 36, 36),
        ("abskey-", Token, 20, ANY),
        ("HRKU-", Token, 36, ANY),
        ("pul-", Hex, 40, 40),
        ("EAAA", Token, 56, ANY),
        ("EAA", Alphanumeric, 80, ANY),
        ("ops_", Token, 60, ANY),
        ("CFPAT-", Token, 43, ANY),
        ("shippo_live_", Hex, 40, 40),
        ("shippo_test_", Hex, 40, 40),
        ("PMAT-", Token, 20, ANY),
        ("EZAK", Alphanumeric, 54, 54),
        ("EZTK", Alphanumeric, 54, 54),
        ("duffel_live_", Token, 40, ANY),
        ("duffel_test_", Token, 40, ANY),
        ("nvapi-", Token, 60, ANY),
        ("pplx-", Alphanumeric, 48, ANY),
        ("sbp_", Hex, 40, 40),
        ("lsv2_pt_", Word, 32, ANY),
        ("ATCTT3xFfG", Token, 40, ANY),
        ("AKCp", Alphanumeric, 60, 80),
        ("cmVmdGtu", Alphanumeric, 50, 60),
        ("pnu_", Alphanumeric, 36, 36),
        ("tfp_", Token, 59, 59),
        ("aio_", Alphanumeric, 28, 28),
        ("phx_", Alphanumeric, 40, ANY),
        ("GR1348941", Token, 20, ANY),
        ("rdme_", Alphanumeric, 70, 70),
        ("p8e-", Alphanumeric, 32, 32),
        ("fo1_", Token, 43, 43),
        ("xkeysib-", Token, 80, ANY),
        ("sk_prod_", Alphanumeric, 12, ANY),
        ("rk_prod_", Alphanumeric, 12, ANY),
        ("SQSP", Token, 40, ANY),
        ("CLOJARS_", Alphanumeric, 60, 60),
        ("LTAI", Alphanumeric, 16, 20),
        ("api_org_", Alphanumeric, 34, 34),
        ("NRJS-", Hex, 19, 19),
        ("NRII-", Token, 32, 32),
        ("sntryu_", Hex, 64, 64),
        ("sntrya_", Hex, 64, 64),
        ("pscale_oauth_", Token, 32, ANY),
        ("FLWSECK-", Token, 34, 40),
        ("FLWSECK_TEST-", Token, 12, 40),
        ("fio-u-", Token, 64, 64),
        ("ico-", Alphanumeric, 32, 32),
        ("dnkey-", Token, 79, 79),
        ("sm_aat_", Alphanumeric, 16, 16),
        ("sm_pat_", Alphanumeric, 16, 16),
        ("sm_sat_", Alphanumeric, 16, 16),
        ("tk-us-", Token, 48, 48),
        ("AQVN", Token, 35, 38),
        ("fm1r_", Word, 40, ANY),
        ("fm1a_", Word, 40, ANY),
        ("fm2_", Word, 40, ANY),
        ("squ_", Hex, 40, 40),
        ("sqp_", Hex, 40, 40),
        ("sqa_", Hex, 40, 40),
        ("pubkey-", Hex, 32, 32),
        ("eyJrIjoi", Alphanumeric, 60, ANY),
        ("access-sandbox-", Token, 36, 36),
        ("access-production-", Token, 36, 36),
        ("access-development-", Token, 36, 36),
        ("figo_", Token, 36, ANY),
        ("nfp_", Alphanumeric, 36, ANY),
        ("wandb_v1_", Token, 32, ANY),
        ("tvly-", Token, 28, ANY),
        ("apify_api_", Alphanumeric, 30, ANY),
        ("CCIPAT_", Word, 40, ANY),
        ("lsv2_sk_", Word, 32, ANY),
        ("tgp_v1_", Token, 32, ANY),
        ("key_live_", Alphanumeric, 16, ANY),
        ("key_test_", Alphanumeric, 16, ANY),
    ]
};

/// Prefixes with a dot, before the run.
const DOTTED: [(&str, usize); 12] = [
    ("dp.pt.", 40),
    ("dp.st.", 40),
    ("dt0c01.", 20),
    ("sl.", 60),
    ("ya29.", 20),
    ("hvs.", 24),
    ("hvb.", 24),
    ("hvr.", 24),
    ("SG.", 20),
    ("1//0.", 20),
    ("xoxe.", 24),
    ("amzn.mws.", 36),
];

/// Calls `found` with what stands in the run of token characters `start..end`.
pub(super) fn in_run(text: &Text<'_>, start: usize, end: usize, mut found: impl FnMut(Detector, usize, usize)) {
    let mut at = start;
    if let Some((from, to)) = dotted(text, start, end)
        .or_else(|| telegram(text, start, end))
        .or_else(|| webhook(text, start, end))
        .or_else(|| parts(text, start, end))
        .or_else(|| encoded_key(text, start))
        .or_else(|| mailchimp(text, start, end))
    {
        found(Detector::ApiToken, from, to);
        at = to.min(end);
    }
    let mut fresh = true;
    while at + 4 < end {
        if fresh || at == start {
            let next = at_boundary(text, at, end);
            if let Some((detector, to)) = next {
                found(detector, at, to);
                at = to;
                fresh = true;
                continue;
            }
            // In written bytes, the letter of an escape stands before what it precedes.
            if text.raw && at == start && text.before(at) == Some(b'\\') {
                at += 1;
                fresh = true;
                continue;
            }
        }
        fresh = !text.bytes[at].is_ascii_alphanumeric();
        at += 1;
    }
}

/// What starts at `at`, where no letter or digit stands before.
fn at_boundary(text: &Text<'_>, at: usize, end: usize) -> Option<(Detector, usize)> {
    let run = &text.bytes[at..end];
    match run[0] {
        b'0' if matches!(run[1], b'x' | b'X') => hex_address(run).map(|length| (Detector::Ethereum, at + length)),
        b'1' | b'3' => bitcoin(run).map(|length| (Detector::Bitcoin, at + length)),
        b'b' | b'B' | b't' | b'T' if run[1] | 0x20 == b'c' || run[1] | 0x20 == b'b' => {
            segwit(run).map(|length| (Detector::Bitcoin, at + length))
        }
        _ => None,
    }
    .or_else(|| ton(text, at).map(|to| (Detector::Ton, to)))
    .or_else(|| token(run).map(|length| (Detector::ApiToken, at + length)))
}

fn token(run: &[u8]) -> Option<usize> {
    let pair = usize::from(run[0]) << 8 | usize::from(run[1]);
    if STARTS[pair / 64] >> (pair % 64) & 1 == 0 {
        return None;
    }
    TOKENS.iter().find_map(|(prefix, class, least, most)| {
        let rest = run.strip_prefix(prefix.as_bytes())?;
        let length = rest.iter().take(*most + 1).take_while(|byte| class.has(**byte)).count();
        let ends = !rest.get(length).is_some_and(u8::is_ascii_alphanumeric) || length > 4096;
        ((*least..=(*most).max(4097)).contains(&length) && (length <= *most || *most == 4096) && ends).then_some(prefix.len() + length)
    })
}

/// The pairs of bytes that prefixes start with; one bit each.
static STARTS: [u64; 1024] = {
    let mut starts = [0; 1024];
    let mut row = 0;
    while row < TOKENS.len() {
        let prefix = TOKENS[row].0.as_bytes();
        let pair = (prefix[0] as usize) << 8 | prefix[1] as usize;
        starts[pair / 64] |= 1 << (pair % 64);
        row += 1;
    }
    starts
};

fn dotted(text: &Text<'_>, start: usize, end: usize) -> Option<(usize, usize)> {
    if text.before(start) != Some(b'.') {
        return None;
    }
    DOTTED.iter().find_map(|(prefix, least)| {
        let from = start.checked_sub(prefix.len())?;
        if !text.bytes[from..].starts_with(prefix.as_bytes()) || end - start < *least || text.word_before(from) {
            return None;
        }
        // SendGrid's have a second part.
        let end = if text.get(end) == Some(b'.') && matches!(*prefix, "SG." | "dt0c01.") { text.run(end + 1, is_token) } else { end };
        Some((from, end))
    })
}

/// The path of a webhook, of which the run is the last part: who knows it may write.
fn webhook(text: &Text<'_>, start: usize, end: usize) -> Option<(usize, usize)> {
    const MAX_PATH_BYTES: usize = 80;
    const PLACES: [&[u8]; 4] =
        [b"hooks.slack.com/services/", b"hooks.slack.com/workflows/", b"hooks.slack.com/triggers/", b"/api/webhooks/"];
    if text.before(start) != Some(b'/') {
        return None;
    }
    place(text, start, MAX_PATH_BYTES, &PLACES).map(|from| (from, end))
}

/// Tokens of several parts of which the run is the last: `MTIz….GabcDE.…` (Discord), `….atlasv1.…` (Terraform), `abc8Q~…` (Azure).
fn parts(text: &Text<'_>, start: usize, end: usize) -> Option<(usize, usize)> {
    let before = &text.bytes[..start];
    let back = |at: usize, most: usize| at - before[..at].iter().rev().take(most).take_while(|byte| is_token(**byte)).count();
    let length = end - start;
    if before.ends_with(b"Q~") && (31..=34).contains(&length) && start >= 6 {
        return before[start - 6..start].iter().all(|byte| is_token(*byte) || matches!(byte, b'.' | b'~')).then_some((start - 6, end));
    }
    // OpenShift's.
    if before.ends_with(b"sha256~") && length == 43 {
        return Some((start - 7, end));
    }
    let dot = start.checked_sub(1).filter(|at| before[*at] == b'.')?;
    // Airtable's.
    if length == 64 && before[dot.saturating_sub(17)..].starts_with(b"pat") {
        let from = back(dot, 18);
        return (dot - from == 17).then_some((from, end));
    }
    if before.ends_with(b".atlasv1.") && length >= 60 {
        let from = back(start - 9, 15);
        return (start - 9 - from == 14).then_some((from, end));
    }
    let middle = back(dot, 8);
    let first_dot = middle.checked_sub(1).filter(|at| before[*at] == b'.')?;
    let first = back(first_dot, 32);
    let fine = (6..=7).contains(&(dot - middle)) && (23..=28).contains(&(first_dot - first)) && matches!(before[first], b'M' | b'N' | b'O');
    (fine && (27..=40).contains(&length)).then_some((first, end))
}

/// A private key in Base64, as kubeconfigs and secrets of Kubernetes have them, from its first run on.
fn encoded_key(text: &Text<'_>, start: usize) -> Option<(usize, usize)> {
    // What `-----BEGIN` becomes, and `RSA `, `PRI`, `EC `, `OPEN`, `DSA `, `ENC` after it.
    const KINDS: [&[u8]; 6] = [b"BSU0Eg", b"BQUkl", b"BFQyBQ", b"BPUEVO", b"BEU0Eg", b"BFTkNS"];
    let rest = text.bytes[start..].strip_prefix(b"LS0tLS1CRUdJTi")?;
    let private = KINDS.iter().any(|kind| rest.starts_with(kind));
    private.then(|| (start, text.run(start, |byte| is_token(byte) || matches!(byte, b'+' | b'/' | b'='))))
}

/// 32 hexadecimal digits, `-us` and the number of a data centre.
fn mailchimp(text: &Text<'_>, start: usize, end: usize) -> Option<(usize, usize)> {
    let (key, centre) = text.bytes[start..end].split_at_checked(32)?;
    let number = centre.strip_prefix(b"-us")?;
    let fine = key.iter().all(|byte| Class::Hex.has(*byte)) && matches!(number.len(), 1 | 2) && number.iter().all(u8::is_ascii_digit);
    fine.then_some((start, end))
}

/// Where one of some texts ends within reach before `at`.
fn place(text: &Text<'_>, at: usize, reach: usize, places: &[&[u8]]) -> Option<usize> {
    let from = at.saturating_sub(reach);
    let window = &text.bytes[from..at];
    places.iter().find_map(|place| Some(from + memchr::memmem::rfind(window, place)? + place.len()))
}

/// A bot's token: eight to ten digits, a colon, `AA` and 33 characters.
fn telegram(text: &Text<'_>, start: usize, end: usize) -> Option<(usize, usize)> {
    let colon = start.checked_sub(1).filter(|at| text.bytes[*at] == b':')?;
    let digits = text.bytes[..colon].iter().rev().take(11).take_while(|byte| byte.is_ascii_digit()).count();
    let from = colon - digits;
    let in_address = text.bytes[..from].ends_with(b"/bot") || text.bytes[..from].ends_with(b" bot");
    (text.bytes[start..end].starts_with(b"A") && end - start == 35 && (8..=10).contains(&digits) && (in_address || !text.word_before(from)))
        .then_some((from, end))
}

/// `0x` and 40 hexadecimal digits, no more: 64 are the hash of a transaction.
fn hex_address(run: &[u8]) -> Option<usize> {
    let digits = run[2..].iter().take(41).take_while(|byte| byte.is_ascii_hexdigit()).count();
    (digits == 40 && !run.get(42).is_some_and(u8::is_ascii_alphanumeric)).then_some(42)
}

fn bitcoin(run: &[u8]) -> Option<usize> {
    let length = run.iter().take(36).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    ((26..=35).contains(&length) && checks::base58_bitcoin(&run[..length])).then_some(length)
}

fn segwit(run: &[u8]) -> Option<usize> {
    let known = [&b"bc1"[..], b"tb1"].iter().any(|prefix| run[..3].eq_ignore_ascii_case(prefix));
    let length = run.iter().take(91).take_while(|byte| byte.is_ascii_alphanumeric()).count();
    (known && (MIN_RUN_BYTES..=90).contains(&length) && checks::bech32(&run[..length])).then_some(length)
}

fn ton(text: &Text<'_>, at: usize) -> Option<usize> {
    let address = text.bytes.get(at..at + 48)?;
    let starts = matches!(address[0], b'E' | b'U' | b'k' | b'0') && address[1] == b'Q';
    let ends = !text.get(at + 48).is_some_and(|byte| byte.is_ascii_alphanumeric());
    (starts && ends && checks::ton(address)).then_some(at + 48)
}
