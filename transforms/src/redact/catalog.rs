//! The detectors that there are: one table with each one's name, group, tag and what is worth to know of it.
//!
//! A new detector is a variant of [`Detector`], a row of [`CATALOG`], and a reader that reports it.

/// A built-in detector. Its number is its row in [`CATALOG`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Detector {
    Email,
    Phone,
    CreditCard,
    CardCode,
    Iban,
    Ipv4,
    Ipv6,
    Mac,
    Jwt,
    BearerToken,
    Credentials,
    Cookie,
    Session,
    UrlPassword,
    ApiToken,
    PrivateKey,
    Password,
    Secret,
    Ethereum,
    Bitcoin,
    Ton,
    SeedPhrase,
    Snils,
    Inn,
    Passport,
    Mrz,
    UsSsn,
    ThaiId,
    Cccd,
    Nhs,
    NationalId,
    Name,
    BirthDate,
    Address,
    Account,
}

/// What a detector belongs to, and can be chosen by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Group {
    Secrets,
    Contact,
    Payment,
    Identity,
    Network,
    Crypto,
}

/// A row of the catalogue.
pub(super) struct Entry {
    pub(super) detector: Detector,
    /// What it is called in the configuration and the counts.
    pub(super) name: &'static str,
    pub(super) group: Group,
    /// What stands in the place of a value, in brackets.
    pub(super) tag: &'static str,
    /// Whether it belongs to `"default"`.
    pub(super) default: bool,
    /// What it finds and how that is confirmed, for the documentation.
    pub(super) finds: &'static str,
}

const fn entry(detector: Detector, name: &'static str, group: Group, tag: &'static str, finds: &'static str) -> Entry {
    Entry { detector, name, group, tag, default: true, finds }
}

/// How many detectors there are.
pub(super) const COUNT: usize = CATALOG.len();

/// All detectors, in the order of their numbers. Where two find values that overlap and start together, the longer one
/// counts, then the one that stands first here.
pub(super) const CATALOG: [Entry; 35] = {
    use Detector::*;
    use Group::*;
    [
        entry(Email, "email", Contact, "EMAIL", "mail addresses in any script, except names of files and units (`logo@2x.png`)"),
        entry(
            Phone,
            "phone",
            Contact,
            "PHONE",
            "`+` and a number of its country's length; Russian, Thai, Vietnamese, UK and North American forms; others beside a word like `phone` or below such a key",
        ),
        entry(
            CreditCard,
            "credit_card",
            Payment,
            "CREDIT_CARD",
            "13 to 19 digits in a form that people write, with a known issuer and Luhn's check digit; digits below keys like `card_number`, `pan`",
        ),
        entry(
            CardCode,
            "card_code",
            Payment,
            "CARD_CODE",
            "digits below keys `cvv`, `cvc`, `pin`, `otp`; `OTP is 482913`, `your code: 482913`, `รหัส OTP 482913` in a sentence",
        ),
        entry(
            Iban,
            "iban",
            Payment,
            "IBAN",
            "account numbers with their country's length and a remainder of 1 modulo 97, in one piece or groups of four",
        ),
        entry(
            Ipv4,
            "ipv4",
            Network,
            "IPV4",
            "addresses, except those of this host, of private networks (see `keep_private_addresses`), and versions",
        ),
        entry(Ipv6, "ipv6", Network, "IPV6", "addresses with `::` or eight groups, except the loopback and unique local ones (fc00::/7)"),
        entry(Mac, "mac", Network, "MAC", "six pairs of hexadecimal digits with one kind of separator"),
        entry(Jwt, "jwt", Secrets, "JWT", "JSON Web Tokens, signed, unsigned or encrypted"),
        entry(BearerToken, "bearer_token", Secrets, "BEARER_TOKEN", "what follows the word `Bearer`"),
        entry(
            Credentials,
            "credentials",
            Secrets,
            "CREDENTIALS",
            "what follows `Basic`, `Negotiate`, `ApiKey`, `Token` in a header, `token is` in a sentence; values of keys that end with `authorization`, `credentials`",
        ),
        entry(
            Cookie,
            "cookie",
            Secrets,
            "COOKIE",
            "values of cookies of six characters and more after `Cookie` and `Set-Cookie`; attributes stay",
        ),
        entry(
            Session,
            "session",
            Secrets,
            "SESSION",
            "values of 16 characters and more, with a letter and a digit, below keys like `sessionid`, `sid`",
        ),
        entry(
            UrlPassword,
            "url_password",
            Secrets,
            "URL_PASSWORD",
            "the password in `scheme://user:password@host` and in MySQL's and Oracle's own form; Sentry's key",
        ),
        entry(
            ApiToken,
            "api_token",
            Secrets,
            "API_TOKEN",
            "tokens of over a hundred providers by their prefix, length and alphabet (AWS, GitHub, GitLab, Slack, Stripe, Google, OpenAI, Telegram, …)",
        ),
        entry(PrivateKey, "private_key", Secrets, "PRIVATE_KEY", "PEM private keys from BEGIN to END, or to the end of the text"),
        entry(
            Password,
            "password",
            Secrets,
            "PASSWORD",
            "values of keys that end with `password`, `passwd`, `pwd`, `passphrase`; `password is …`, `password hunter22`, `пароль …`, `รหัสผ่าน …` in a sentence",
        ),
        entry(
            Secret,
            "secret",
            Secrets,
            "SECRET",
            "values of keys that end with `secret`, `api_key`, `access_key`, `private_key`, `access_token`, …, or whose last word is `token`",
        ),
        entry(Ethereum, "ethereum", Crypto, "ETH_ADDRESS", "`0x` and 40 hexadecimal digits; hashes of transactions stay"),
        entry(Bitcoin, "bitcoin", Crypto, "BTC_ADDRESS", "addresses with a right checksum (Base58Check, Bech32, Bech32m)"),
        entry(Ton, "ton", Crypto, "TON_ADDRESS", "addresses of 48 characters with a right CRC"),
        entry(SeedPhrase, "seed_phrase", Crypto, "SEED_PHRASE", "values of keys like `mnemonic`, `seed_phrase`, `recovery_phrase`"),
        entry(Snils, "snils", Identity, "SNILS", "Russian insurance numbers with right check digits"),
        entry(Inn, "inn", Identity, "INN", "Russian tax numbers with right check digits beside the word, or below the key `inn`"),
        entry(
            Passport,
            "ru_passport",
            Identity,
            "PASSPORT",
            "Russian passport numbers beside the word; values of keys that end with `passport`",
        ),
        entry(Mrz, "mrz", Identity, "MRZ", "machine-readable lines of passports (ICAO 9303, TD3), the second with right check digits"),
        entry(UsSsn, "us_ssn", Identity, "SSN", "3-2-4 digits with dashes, as they are given out; nine digits beside the word"),
        entry(
            ThaiId,
            "thai_id",
            Identity,
            "THAI_ID",
            "Thai national numbers, in their form 1-4-5-2-1 or beside a word or Thai text, with a right check digit",
        ),
        entry(
            Cccd,
            "vn_cccd",
            Identity,
            "CCCD",
            "Vietnamese citizen numbers of a known province, beside a word like `cccd` or below such a key",
        ),
        entry(Nhs, "uk_nhs", Identity, "NHS", "UK health service numbers with a right check digit, beside the word"),
        entry(
            NationalId,
            "national_id",
            Identity,
            "NATIONAL_ID",
            "values with six digits and more of keys like `national_id`, `id_card`, `tax_id`",
        ),
        entry(
            Name,
            "name",
            Identity,
            "NAME",
            "values of keys like `first_name`, `surname`, `cardholder`; of `user`, `owner` and the like where it is two words with capitals, of `name` where the first is a common given name; never names in sentences",
        ),
        entry(BirthDate, "birth_date", Identity, "BIRTH_DATE", "values of keys like `birth_date`, `dob`"),
        entry(
            Address,
            "address",
            Contact,
            "ADDRESS",
            "values of keys like `street_address`, `billing_address`; of `address` where it is a house number and words",
        ),
        entry(Account, "bank_account", Payment, "BANK_ACCOUNT", "values of keys like `account_number`, `routing_number`"),
    ]
};

impl Detector {
    pub(super) fn entry(self) -> &'static Entry {
        &CATALOG[self as usize]
    }

    pub(super) fn all() -> impl Iterator<Item = Detector> {
        CATALOG.iter().map(|entry| entry.detector)
    }
}

impl Group {
    pub(super) fn name(self) -> &'static str {
        match self {
            Group::Secrets => "secrets",
            Group::Contact => "contact",
            Group::Payment => "payment",
            Group::Identity => "identity",
            Group::Network => "network",
            Group::Crypto => "crypto",
        }
    }
}

/// The detectors that `name` stands for: one, those of a group, `"default"` or `"all"`. `None` where it is no name.
pub(super) fn named(name: &str) -> Option<Vec<Detector>> {
    let chosen: Vec<Detector> = CATALOG
        .iter()
        .filter(|entry| match name {
            "all" => true,
            "default" => entry.default,
            _ => entry.name == name || entry.group.name() == name,
        })
        .map(|entry| entry.detector)
        .collect();
    (!chosen.is_empty()).then_some(chosen)
}

/// All names that [`named`] knows.
pub(super) fn names() -> Vec<&'static str> {
    let mut names = vec!["default", "all", "secrets", "contact", "payment", "identity", "network", "crypto"];
    names.extend(CATALOG.iter().map(|entry| entry.name));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_at_their_numbers_and_names_are_told_apart() {
        for (row, entry) in CATALOG.iter().enumerate() {
            assert_eq!(entry.detector as usize, row, "{}", entry.name);
        }
        let mut names = names();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(named("payment").map(|d| d.len()), Some(4));
        assert_eq!(named("nothing"), None);
    }
}
