use settings::Request;

use super::*;

fn config(folder: &Path, arguments: &[&str]) -> Config {
    let db = format!("-db={}", folder.join("state.db").display());
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).chain([db]);
    let Request::Run(resolved) = crate::config::PROGRAM.read(arguments.map(Into::into), |_| None).unwrap()
    else {
        panic!()
    };
    Config::from_resolved(&resolved).unwrap()
}

fn now() -> Timestamp {
    Timestamp::from_nanos(1_795_000_000_000_000_000)
}

#[test]
fn the_first_start_makes_everything_and_the_second_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &["-names=edr.example.org,10.1.2.3"]);
    let first = Pki::load_or_make(&config, now()).unwrap();
    let second = Pki::load_or_make(&config, now()).unwrap();
    assert_eq!(first.ca, second.ca);
    assert_eq!(first.tls_chain, second.tls_chain);
    assert_eq!(first.sealing_key, second.sealing_key);
    let keys = second.facts().unwrap();
    assert_eq!(keys.sealing_key_bits, 3072);
    for name in ["localhost", "127.0.0.1", "::1", "edr.example.org", "10.1.2.3"] {
        assert!(keys.tls.sans.iter().any(|san| san == name), "{name}: {:?}", keys.tls.sans);
    }
    for private in ["ca-key.pem", "server-key.pem", "server-private.pem", "command-key.pem"] {
        assert!(!crate::host_system::others_can_read(&folder.path().join(private)).unwrap(), "{private}");
    }
}

#[test]
fn the_certificate_is_made_anew_for_a_new_name_and_before_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let first = Pki::load_or_make(&config(folder.path(), &[]), now()).unwrap();
    let renamed = Pki::load_or_make(&config(folder.path(), &["-names=new.example.org"]), now()).unwrap();
    assert_eq!(first.ca, renamed.ca);
    assert_ne!(first.tls_chain[0], renamed.tls_chain[0]);
    let later = Timestamp::from_nanos(now().as_nanos() + 340 * 24 * 3_600_000_000_000);
    let renewed = Pki::load_or_make(&config(folder.path(), &["-names=new.example.org"]), later).unwrap();
    assert_ne!(renamed.tls_chain[0], renewed.tls_chain[0]);
}

#[cfg(unix)]
#[test]
fn a_private_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &[]);
    Pki::load_or_make(&config, now()).unwrap();
    let key = folder.path().join("ca-key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Pki::load_or_make(&config, now()).unwrap_err();
    assert!(matches!(error, PkiError::Exposed { .. }), "{error}");
    std::fs::remove_file(&key).unwrap();
    let error = Pki::load_or_make(&config, now()).unwrap_err();
    assert!(error.to_string().contains("lock every agent out"), "{error}");
}

#[test]
fn a_lost_command_key_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), &[]);
    Pki::load_or_make(&config, now()).unwrap();
    let key = folder.path().join("command-key.pem");
    let text = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    let error = Pki::load_or_make(&config, now()).unwrap_err().to_string();
    assert!(error.contains("command-key.pem: is not there; hint:"), "{error}");
    assert!(error.contains("restore the key from a backup"), "{error}");
    assert!(!key.exists());
    crate::host_system::write_atomically(&key, &text, crate::host_system::Readers::Owner).unwrap();
    Pki::load_or_make(&config, now()).unwrap();
}

#[test]
fn of_a_request_only_the_key_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::load_or_make(&config(folder.path(), &[]), now()).unwrap();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let wishful = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let request = wishful.serialize_request(&key).unwrap();
    let host = HostId::from_uuid(uuid::Uuid::new_v4());
    let issued = pki.issue_agent_certificate(request.der(), host, now()).unwrap();
    assert_eq!(protocol::enrollment::host_of_certificate(&issued.der), Some(host));
    let shown = certificates::facts_of(&issued.der.clone().into()).unwrap();
    assert_eq!(shown.sans, [protocol::enrollment::agent_uri(host)]);
    let mut damaged = request.der().to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(pki.issue_agent_certificate(&damaged, host, now()), Err(PkiError::BadRequest)));
}

#[test]
fn the_ca_vouches_for_the_key_of_an_own_certificate_of_any_kind() {
    let keys = [
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
        KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap(),
    ];
    for key in keys {
        let folder = tempfile::tempdir().unwrap();
        let names = vec!["edr.example.net".to_owned(), "192.0.2.7".to_owned()];
        let own = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let [cert_file, key_file] = ["own.pem", "own-key.pem"].map(|name| folder.path().join(name));
        std::fs::write(&cert_file, own.pem()).unwrap();
        let secret = key.serialize_pem();
        crate::host_system::write_atomically(
            &key_file,
            secret.as_bytes(),
            crate::host_system::Readers::Owner,
        )
        .unwrap();
        let flags = [format!("-cert={}", cert_file.display()), format!("-key={}", key_file.display())];
        let arguments: Vec<&str> =
            flags.iter().map(String::as_str).chain(["-names=edr.example.org"]).collect();
        let pki = Pki::load_or_make(&config(folder.path(), &arguments), now()).unwrap();
        let [shown, voucher, ca] = pki.tls_chain.as_slice() else { panic!("{:?}", pki.tls_chain) };
        assert_eq!((shown, ca), (own.der(), &pki.ca));
        let key_of = |certificate: &CertificateDer<'_>| {
            let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
            parsed.public_key().raw.to_vec()
        };
        assert_eq!(key_of(voucher), key_of(shown));
        let facts = certificates::facts_of(voucher).unwrap();
        for name in ["edr.example.net", "192.0.2.7", "edr.example.org", "localhost"] {
            assert!(facts.sans.iter().any(|san| san == name), "{name}: {:?}", facts.sans);
        }
        // What is shown as the server's certificate is the operator's.
        assert_eq!(pki.facts().unwrap().tls.sha256, to_hex(&sha256(own.der())));
    }
}
