//! How the tokens of providers start, and what they are made of. From the providers' documentation.

use super::text::{is_token, is_word};

/// What tokens may be made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
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
    /// Whether a byte is one of these.
    pub(super) fn has(self, byte: u8) -> bool {
        match self {
            Class::Alphanumeric => byte.is_ascii_alphanumeric(),
            Class::Word => is_word(byte),
            Class::Token => is_token(byte),
            Class::Hex => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            Class::Capitals => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
        }
    }
}

/// Tokens that are made alike: of what, how many bytes after the prefix at least and at most, and their prefixes.
pub(super) struct Kind {
    pub(super) class: Class,
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) prefixes: &'static [&'static str],
}

const fn kind(class: Class, least: usize, most: usize, prefixes: &'static [&'static str]) -> Kind {
    Kind { class, least, most, prefixes }
}

/// As many as there are.
pub(super) const ANY: usize = 4096;

/// All kinds of tokens.
pub(super) const TOKENS: &[Kind] = {
    use Class::*;
    &[
        kind(Alphanumeric, 12, ANY, &["sk_live_", "sk_test_", "rk_live_", "rk_test_", "pk_live_", "pk_test_", "sk_prod_", "rk_prod_"]),
        kind(Alphanumeric, 16, 16, &["sm_aat_", "sm_pat_", "sm_sat_"]),
        kind(Alphanumeric, 16, 20, &["LTAI"]),
        kind(Alphanumeric, 16, ANY, &["key_live_", "key_test_"]),
        kind(Alphanumeric, 20, ANY, &["whsec_", "EAACEdEose0cBA"]),
        kind(Alphanumeric, 28, 28, &["aio_"]),
        kind(Alphanumeric, 28, 36, &["ATBB"]),
        kind(Alphanumeric, 30, 40, &["hf_"]),
        kind(Alphanumeric, 30, ANY, &["apify_api_"]),
        kind(Alphanumeric, 32, 32, &["p8e-", "ico-"]),
        kind(Alphanumeric, 32, ANY, &["sk-", "lin_api_", "glc_"]),
        kind(Alphanumeric, 34, 34, &["api_org_"]),
        kind(Alphanumeric, 36, 36, &["npm_", "pnu_"]),
        kind(Alphanumeric, 36, 40, &["r8_"]),
        kind(Alphanumeric, 36, ANY, &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "nfp_"]),
        kind(Alphanumeric, 40, ANY, &["gsk_", "ntn_", "phx_"]),
        kind(Alphanumeric, 43, 43, &["secret_"]),
        kind(Alphanumeric, 48, ANY, &["pplx-"]),
        kind(Alphanumeric, 50, 60, &["cmVmdGtu"]),
        kind(Alphanumeric, 54, 54, &["EZAK", "EZTK"]),
        kind(Alphanumeric, 60, 60, &["CLOJARS_"]),
        kind(Alphanumeric, 60, 80, &["AKCp"]),
        kind(Alphanumeric, 60, ANY, &["xai-", "eyJrIjoi"]),
        kind(Alphanumeric, 70, 70, &["rdme_"]),
        kind(Alphanumeric, 80, ANY, &["EAA"]),
        kind(Alphanumeric, 100, ANY, &["ABSK"]),
        kind(Capitals, 16, 16, &["AKIA", "ASIA", "AGPA", "AROA", "AIDA", "AIPA", "ANPA", "ANVA", "ABIA", "ACCA"]),
        kind(Capitals, 24, 32, &["NRAK-"]),
        kind(Capitals, 50, 64, &["AGE-SECRET-KEY-1"]),
        kind(Hex, 19, 19, &["NRJS-"]),
        kind(Hex, 32, 32, &["shpat_", "shpca_", "shppa_", "shpss_", "dapi", "key-", "SK", "AC", "pubkey-"]),
        kind(Hex, 40, 40, &["pul-", "shippo_live_", "shippo_test_", "sbp_", "squ_", "sqp_", "sqa_"]),
        kind(Hex, 48, 48, &["rubygems_"]),
        kind(Hex, 64, 64, &["sk-or-v1-", "dop_v1_", "doo_v1_", "dor_v1_", "sntryu_", "sntrya_"]),
        kind(Token, 12, 40, &["FLWSECK_TEST-"]),
        kind(Token, 16, ANY, &["xoxb-", "xoxa-", "xoxp-", "xoxr-", "xoxs-", "xoxo-", "xoxe-"]),
        kind(
            Token,
            20,
            ANY,
            &[
                "glpat-",
                "gldt-",
                "glrt-",
                "glft-",
                "glsoat-",
                "glcbt-",
                "glptt-",
                "glagent-",
                "gloas-",
                "glimt-",
                "glffct-",
                "xapp-",
                "GOCSPX-",
                "sk-proj-",
                "sk-admin-",
                "sk-ant-",
                "sk-svcacct-",
                "sq0atp-",
                "tskey-",
                "abskey-",
                "PMAT-",
                "GR1348941",
            ],
        ),
        kind(Token, 24, ANY, &["dckr_pat_", "dckr_oat_"]),
        kind(Token, 28, ANY, &["tvly-"]),
        kind(Token, 32, 32, &["NRII-"]),
        kind(Token, 32, ANY, &["pscale_tkn_", "pscale_pw_", "pscale_oauth_", "wandb_v1_", "tgp_v1_"]),
        kind(Token, 34, 40, &["FLWSECK-"]),
        kind(Token, 35, 35, &["AIza"]),
        kind(Token, 35, 38, &["AQVN"]),
        kind(Token, 36, 36, &["pat-na1-", "access-sandbox-", "access-production-", "access-development-"]),
        kind(Token, 36, ANY, &["figd_", "HRKU-", "figo_"]),
        kind(Token, 40, ANY, &["sq0csp-", "sntrys_", "duffel_live_", "duffel_test_", "ATCTT3xFfG", "SQSP"]),
        kind(Token, 43, 43, &["fo1_"]),
        kind(Token, 43, ANY, &["CFPAT-"]),
        kind(Token, 48, 48, &["tk-us-"]),
        kind(Token, 50, ANY, &["pypi-", "PMAK-"]),
        kind(Token, 56, ANY, &["EAAA"]),
        kind(Token, 59, 59, &["tfp_"]),
        kind(Token, 60, ANY, &["ATATT3", "ops_", "nvapi-"]),
        kind(Token, 64, 64, &["fio-u-"]),
        kind(Token, 79, 79, &["dnkey-"]),
        kind(Token, 80, ANY, &["xkeysib-"]),
        kind(Word, 32, ANY, &["glsa_", "lsv2_pt_", "lsv2_sk_"]),
        kind(Word, 40, ANY, &["sgp_", "fm1r_", "fm1a_", "fm2_", "CCIPAT_"]),
        kind(Word, 60, ANY, &["github_pat_"]),
    ]
};

/// Prefixes with a dot, before the run.
pub(super) const DOTTED: [(&str, usize); 12] = [
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

/// A prefix and the row of [`TOKENS`] that it is in.
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub(super) prefix: &'static str,
    pub(super) row: usize,
}

const COUNT: usize = {
    let (mut count, mut row) = (0, 0);
    while row < TOKENS.len() {
        count += TOKENS[row].prefixes.len();
        row += 1;
    }
    count
};

/// All prefixes by their first byte, and where those of each byte begin.
static STARTS: ([Start; COUNT], [u16; 257]) = {
    let mut starts = [Start { prefix: "", row: 0 }; COUNT];
    let mut begins = [0; 257];
    let (mut first, mut count) = (0, 0);
    while first < 256 {
        begins[first] = count as u16;
        let mut row = 0;
        while row < TOKENS.len() {
            let prefixes = TOKENS[row].prefixes;
            let mut at = 0;
            while at < prefixes.len() {
                if prefixes[at].as_bytes()[0] as usize == first {
                    starts[count] = Start { prefix: prefixes[at], row };
                    count += 1;
                }
                at += 1;
            }
            row += 1;
        }
        first += 1;
    }
    begins[256] = count as u16;
    (starts, begins)
};

/// The prefixes that start with a byte, in the order of [`TOKENS`].
pub(super) fn starts_with(first: u8) -> &'static [Start] {
    let (starts, begins) = &STARTS;
    &starts[usize::from(begins[usize::from(first)])..usize::from(begins[usize::from(first) + 1])]
}
