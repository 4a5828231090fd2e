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
    /// Capitals, digits and `-`, both of the former.
    Groups,
    /// A UUID: hexadecimal digits and `-`.
    Uuid,
    /// Letters and digits, of each kind one at least: for prefixes that words start with, too.
    Mixed,
    /// The same with `_` and `-`.
    MixedToken,
    /// Letters, digits, `_`, `-`, `+`, `/` and `=`, beyond the end of the run.
    Base64,
}

impl Class {
    /// Whether a byte is one of these.
    pub(super) fn has(self, byte: u8) -> bool {
        match self {
            Class::Alphanumeric | Class::Mixed => byte.is_ascii_alphanumeric(),
            Class::Word => is_word(byte),
            Class::Token | Class::MixedToken => is_token(byte),
            Class::Base64 => is_token(byte) || matches!(byte, b'+' | b'/' | b'='),
            Class::Uuid => byte == b'-' || Class::Hex.has(byte),
            Class::Groups => byte == b'-' || Class::Capitals.has(byte),
            Class::Hex => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            Class::Capitals => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
        }
    }

    /// Whether bytes that are all of these are a token of this class.
    pub(super) fn is_made_of(self, bytes: &[u8]) -> bool {
        let any = |test: fn(&u8) -> bool| bytes.iter().any(test);
        match self {
            Class::Mixed | Class::MixedToken => any(u8::is_ascii_digit) && any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase),
            Class::Groups => {
                any(u8::is_ascii_digit) && any(u8::is_ascii_uppercase) && bytes.iter().filter(|byte| **byte == b'-').count() == 5
            }
            Class::Uuid => bytes.iter().enumerate().all(|(at, byte)| (*byte == b'-') == matches!(at, 8 | 13 | 18 | 23)),
            _ => true,
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
        kind(Alphanumeric, 28, 28, &["aio_", "samsara_api_"]),
        kind(Alphanumeric, 28, 36, &["ATBB"]),
        kind(Alphanumeric, 30, 40, &["hf_"]),
        kind(Alphanumeric, 30, ANY, &["apify_api_"]),
        kind(Alphanumeric, 32, 32, &["p8e-", "ico-"]),
        kind(Alphanumeric, 32, ANY, &["sk-", "lin_api_", "glc_"]),
        kind(Alphanumeric, 34, 34, &["api_org_"]),
        kind(Alphanumeric, 36, 36, &["npm_", "pnu_"]),
        kind(Alphanumeric, 36, 40, &["r8_"]),
        kind(Alphanumeric, 36, ANY, &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "nfp_"]),
        kind(Alphanumeric, 40, ANY, &["gsk_", "ntn_", "phx_", "polar_oat_"]),
        kind(Alphanumeric, 43, 43, &["secret_", "oy2"]),
        kind(Alphanumeric, 48, 48, &["csk-"]),
        kind(Alphanumeric, 48, ANY, &["pplx-"]),
        kind(Alphanumeric, 50, 60, &["cmVmdGtu"]),
        kind(Alphanumeric, 54, 54, &["EZAK", "EZTK"]),
        kind(Alphanumeric, 60, 60, &["CLOJARS_"]),
        kind(Alphanumeric, 60, 80, &["AKCp"]),
        kind(Alphanumeric, 60, ANY, &["xai-", "eyJrIjoi"]),
        kind(Alphanumeric, 70, 70, &["rdme_"]),
        kind(Alphanumeric, 80, ANY, &["EAA"]),
        kind(Alphanumeric, 100, ANY, &["ABSK"]),
        kind(Base64, 60, ANY, &["bedrock-api-key-"]),
        kind(Base64, 80, ANY, &["sntrys_eyJ", "fm2_", "fm1r_", "fm1a_", "RWRTY0Iy"]),
        kind(Base64, 150, ANY, &["ATATT3xF", "ATCTT3xF"]),
        kind(Capitals, 16, 16, &["AKIA", "ASIA", "AGPA", "AROA", "AIDA", "AIPA", "ANPA", "ANVA", "ABIA", "ACCA", "APKA"]),
        kind(Capitals, 17, 17, &["SCW"]),
        kind(Capitals, 24, 32, &["NRAK-"]),
        kind(Capitals, 26, 26, &["API-"]),
        kind(Capitals, 44, 44, &["rpa_"]),
        kind(Capitals, 50, 64, &["AGE-SECRET-KEY-1"]),
        kind(Hex, 19, 19, &["NRJS-"]),
        kind(Groups, 37, 37, &["A3-"]),
        kind(Hex, 32, 32, &["shpat_", "shpca_", "shppa_", "shpss_", "dapi", "dose", "dkea", "key-", "SK", "AC", "pubkey-", "fc-"]),
        kind(Hex, 34, 34, &["pk_"]),
        kind(Hex, 35, 35, &["live_", "test_"]),
        kind(Hex, 40, 40, &["pul-", "shippo_live_", "shippo_test_", "sbp_", "squ_", "sqp_", "sqa_", "bkua_", "bkct_", "bkaj_"]),
        kind(Hex, 48, 48, &["rubygems_", "sk_"]),
        kind(
            Hex,
            64,
            64,
            &["sk-or-v1-", "dop_v1_", "doo_v1_", "dor_v1_", "sntryu_", "sntrya_", "rootly_", "slk_", "s-s4t2ud-", "lin_oauth_"],
        ),
        kind(Mixed, 14, 14, &["rzp_live_", "rzp_test_"]),
        kind(Mixed, 20, 24, &["fw_"]),
        kind(Mixed, 24, 24, &["tr_prod_", "tr_dev_", "Mid-server-"]),
        kind(Mixed, 28, 32, &["rnd_", "vtwn_", "BBFF-"]),
        kind(Mixed, 32, 40, &["cio", "AKID", "dvc_server_", "dvc_client_", "dvc_mobile_"]),
        kind(Mixed, 36, 44, &["4b1d", "AKLT", "ion_", "phc_"]),
        kind(Mixed, 40, 64, &["essu_", "mka_", "vcp_", "vck_"]),
        kind(MixedToken, 20, 22, &["md-", "YCAJE", "YCM"]),
        kind(MixedToken, 33, 33, &["re_"]),
        kind(MixedToken, 40, 44, &["b_", "live_", "sandbox_"]),
        kind(MixedToken, 46, ANY, &["CCDB1_", "CCIPRJ_", "pcsk_", "pdl_live_apikey_", "pdl_sdbx_apikey_", "vercel_blob_rw_", "KEY0"]),
        kind(Token, 12, 40, &["FLWSECK_TEST-"]),
        kind(Token, 16, ANY, &["xoxb-", "xoxa-", "xoxp-", "xoxr-", "xoxs-", "xoxo-", "xoxe-", "xoxc-", "xoxd-", "AVNS_", "mdb_sa_sk_"]),
        kind(
            Token,
            20,
            ANY,
            &[
                "glpat-",
                "gldt-",
                "glrt-",
                "glrtr-",
                "glwt-",
                "sb_secret_",
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
        kind(Uuid, 36, 36, &["sk_", "sdk-", "mob-", "waka_", "ovsxp_", "pat-eu1-", "live_", "test_"]),
        kind(Token, 32, ANY, &["zpka_", "napi_", "pscale_tkn_", "pscale_pw_", "pscale_oauth_", "wandb_v1_", "tgp_v1_"]),
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
pub(super) const DOTTED: [(&str, usize); 15] = [
    ("dp.pt.", 40),
    ("dp.st.", 40),
    ("dp.ct.", 40),
    ("dp.sa.", 40),
    ("dp.scim.", 40),
    ("sl.u.", 60),
    ("dt0c01.", 20),
    ("sl.", 60),
    ("ya29.", 20),
    ("hvs.", 24),
    ("hvb.", 24),
    ("hvr.", 24),
    ("SG.", 20),
    ("xoxe.", 24),
    ("amzn.mws.", 36),
];

/// Tokens of some parts with dots between them, by how they start: how many dots there are, and how many bytes in all.
pub(super) const PARTED: [(&str, usize, std::ops::RangeInclusive<usize>); 13] = [
    ("snyk_uat.", 2, 60..=100),
    ("snyk_sat.", 2, 60..=100),
    ("pat.", 3, 70..=76),
    ("sat.", 3, 70..=76),
    ("dp.st.", 3, 46..=90),
    ("sc_", 3, 60..=180),
    ("ext_", 3, 60..=180),
    ("authress_", 3, 60..=180),
    ("api_live.", 2, 44..=80),
    ("api_sandbox.", 2, 44..=80),
    ("1000.", 2, 70..=70),
    ("dt0s", 2, 80..=96),
    ("t1.9eu", 2, 100..=400),
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
