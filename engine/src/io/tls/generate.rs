//! Certificates made on the spot: for a first start without any, for the demonstration, for tests.
//!
//! ECDSA P-256 throughout: a full handshake costs a sixth of what RSA-2048 costs. Private keys are
//! only in [`Zeroizing`] strings; writing them to a file, with mode 0600, is the caller's act.

use std::fmt;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use zeroize::Zeroizing;

/// Longest validity that mail and web clients take from any issuer.
const LEAF_DAYS: i64 = 398;

/// Validity of a certificate authority made here.
const AUTHORITY_DAYS: i64 = 3650;

/// A certificate and its key, both PEM.
pub struct Generated {
    /// The certificate alone; an authority's own certificate is not appended.
    pub certificate_pem: String,
    /// PKCS#8 private key.
    pub key_pem: Zeroizing<String>,
}

/// Why a certificate cannot be made: a name is neither a host name nor an address, or the system
/// gives no random bytes.
#[derive(Debug)]
pub struct GenerateError(rcgen::Error);

impl fmt::Display for GenerateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot make a certificate: {}", self.0)
    }
}

impl std::error::Error for GenerateError {}

impl From<rcgen::Error> for GenerateError {
    fn from(error: rcgen::Error) -> Self {
        Self(error)
    }
}

/// Makes a self-signed certificate for `names` (host names or IP addresses), valid from a day before
/// `now` for 398 days.
pub fn self_signed(names: &[&str], now: Timestamp) -> Result<Generated, GenerateError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = leaf(names, now)?.self_signed(&key)?;
    Ok(generated(&certificate, &key))
}

/// A certificate authority of our own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl Authority {
    /// Makes an authority, valid from a day before `now` for ten years.
    pub fn new(common_name: &str, now: Timestamp) -> Result<Self, GenerateError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, common_name);
        set_validity(&mut params, now, AUTHORITY_DAYS);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem })
    }

    /// The authority's own certificate, to be trusted.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Issues a certificate for `names`, usable by servers and clients, valid for 398 days.
    pub fn issue(&self, names: &[&str], now: Timestamp) -> Result<Generated, GenerateError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = leaf(names, now)?.signed_by(&key, &self.issuer)?;
        Ok(generated(&certificate, &key))
    }
}

fn leaf(names: &[&str], now: Timestamp) -> Result<CertificateParams, GenerateError> {
    let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
    let first = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, first);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, LEAF_DAYS);
    Ok(params)
}

/// Whole days, for that is what rcgen offers without a second calendar crate.
fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let day = |offset: i64| {
        let moment = now.saturating_add(SignedDuration::from_hours(24 * offset)).unwrap_or(now);
        let date = TimeZone::UTC.to_datetime(moment);
        let month = u8::try_from(date.month()).unwrap_or(1);
        rcgen::date_time_ymd(date.year().into(), month, u8::try_from(date.day()).unwrap_or(1))
    };
    params.not_before = day(-1);
    params.not_after = day(days - 1);
}

fn generated(certificate: &Certificate, key: &KeyPair) -> Generated {
    Generated { certificate_pem: certificate.pem(), key_pem: Zeroizing::new(key.serialize_pem()) }
}
