//! Actions that look: lists and evidence.

use std::process::Command;

use response::{Action, EvidenceRequest, OrderState};

use crate::bench::{Owned, bench, target};

#[test]
fn lists_have_this_process_and_its_connection() {
    let mut bench = bench();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let receipt = bench.run(Action::ListProcesses {});
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    let own = std::process::id();
    let processes = receipt.result.as_array().unwrap();
    let entry = processes.iter().find(|one| one["pid"] == own).unwrap();
    assert_eq!(entry["entity_id"], target(own).entity_id.to_string());
    let receipt = bench.run(Action::ListConnections {});
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    let local = client.local_addr().unwrap().to_string();
    let connections = receipt.result.as_array().unwrap();
    let entry = connections.iter().find(|one| one["local"] == local.as_str()).unwrap();
    assert_eq!((&entry["pid"], &entry["state"]), (&own.into(), &"established".into()));
}

#[test]
fn evidence_is_one_archive_that_tar_reads_and_its_manifest_proves() {
    let mut bench = bench();
    let child = Owned(Command::new("sleep").arg("617").spawn().unwrap());
    let long = bench.path(&"long-name/".repeat(15)).join("file");
    std::fs::create_dir_all(long.parent().unwrap()).unwrap();
    std::fs::write(&long, "what is asked for").unwrap();
    let missing = bench.path("missing");
    let request = EvidenceRequest {
        processes: vec![child.0.id()],
        files: vec![long.display().to_string(), missing.display().to_string()],
        memory: Some(target(child.0.id())),
    };
    let receipt = bench.run(Action::CollectEvidence(request));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    let archive = receipt.result["archive"].as_str().unwrap();
    assert!(receipt.result["left_out"].to_string().contains("missing"));
    let out = tempfile::tempdir().unwrap();
    let unpacked = Command::new("tar").args(["-xf", archive, "-C"]).arg(out.path()).status().unwrap();
    assert!(unpacked.success());
    let manifest = std::fs::read(out.path().join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let entries = manifest["entries"].as_array().unwrap();
    assert!(entries.len() >= 7, "{manifest:#}");
    for entry in entries {
        let path = out.path().join(entry["name"].as_str().unwrap());
        let said = Command::new("sha256sum").arg(&path).output().unwrap().stdout;
        assert!(said.starts_with(entry["sha256"].as_str().unwrap().as_bytes()), "{}", path.display());
    }
    let copied = out.path().join("files").join(long.strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(copied).unwrap(), "what is asked for");
    let maps = std::fs::read_to_string(out.path().join(format!("proc/{}/maps", child.0.id()))).unwrap();
    assert!(maps.contains("sleep"), "{maps}");
    // Its arguments are in its memory, and the memory of no protected process is given away.
    let memory = std::fs::read_dir(out.path().join(format!("memory/{}", child.0.id()))).unwrap().flatten();
    let pieces = memory.filter(|entry| entry.path().extension().is_some_and(|end| end == "bin"));
    let holds = |entry: std::fs::DirEntry| {
        std::fs::read(entry.path()).unwrap().windows(10).any(|window| window == b"sleep\x00617\x00")
    };
    assert!(pieces.into_iter().any(holds));
    let own = EvidenceRequest { memory: Some(target(std::process::id())), ..EvidenceRequest::default() };
    let receipt = bench.run(Action::CollectEvidence(own));
    assert_eq!(receipt.state, OrderState::Refused, "{}", receipt.reason);
}

#[test]
fn evidence_is_signed_where_there_is_a_key() {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
    };
    let dir = tempfile::tempdir().unwrap();
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let public = key.public_key().as_ref().to_vec();
    let (mut responder, _) = crate::bench::open_signing(
        dir.path(),
        Box::new(move |text| {
            let signature = key.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec();
            Some(response::Signature { signature, certificate: b"certificate".to_vec() })
        }),
    );
    let receipt = responder.run(crate::bench::command(Action::CollectEvidence(EvidenceRequest::default())));
    assert_eq!(receipt.state, OrderState::Verified, "{}", receipt.reason);
    assert_eq!(receipt.result["signed"], true);
    let out = tempfile::tempdir().unwrap();
    let archive = receipt.result["archive"].as_str().unwrap();
    assert!(Command::new("tar").args(["-xf", archive, "-C"]).arg(out.path()).status().unwrap().success());
    let read = |name: &str| std::fs::read(out.path().join(name)).unwrap();
    let verifier = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public);
    verifier.verify(&read("manifest.json"), &read("manifest.sig")).unwrap();
    assert_eq!(read("manifest.crt.der"), b"certificate");
    assert!(String::from_utf8(read("manifest.json")).unwrap().contains(&receipt.id.to_string()));
}
