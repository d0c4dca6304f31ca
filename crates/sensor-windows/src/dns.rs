//! Queries of names, as Windows writes of them.

/// The name of a type of records.
pub(crate) fn type_name(number: u32) -> String {
    let known = [
        (1, "A"),
        (2, "NS"),
        (5, "CNAME"),
        (6, "SOA"),
        (12, "PTR"),
        (15, "MX"),
        (16, "TXT"),
        (28, "AAAA"),
        (33, "SRV"),
        (64, "SVCB"),
        (65, "HTTPS"),
        (255, "ANY"),
    ];
    let found = known.iter().find(|(known, _)| *known == number);
    found.map_or_else(|| format!("TYPE{number}"), |(_, name)| (*name).to_owned())
}

/// The type that was asked for, as far as the answers tell, and what they are:
/// `type:  5 name;::ffff:192.0.2.1;`.
pub(crate) fn answers(results: &str) -> (&'static str, Vec<String>) {
    const MOST: usize = 64;
    let mut kind = "unknown";
    let mut answers = Vec::new();
    for one in results.split(';').map(str::trim).filter(|one| !one.is_empty() && *one != "-").take(MOST) {
        if let Ok(address) = one.parse::<std::net::IpAddr>() {
            let address = address.to_canonical();
            kind = if address.is_ipv4() { "A" } else { "AAAA" };
            answers.push(address.to_string());
            continue;
        }
        // A number of a type, and its data.
        let Some((number, data)) = one.strip_prefix("type:").and_then(|rest| rest.trim().split_once(' '))
        else {
            answers.push(one.to_owned());
            continue;
        };
        let of_number = match number {
            "12" => "PTR",
            "15" => "MX",
            "16" => "TXT",
            "33" => "SRV",
            _ => kind,
        };
        kind = of_number;
        answers.push(data.trim().to_owned());
    }
    (kind, answers)
}

/// Windows' number of what came of it, in the words of DNS.
pub(crate) fn response_code(status: &str) -> String {
    match status {
        "0" => "NOERROR",
        "9001" => "FORMERR",
        "9002" => "SERVFAIL",
        "9003" => "NXDOMAIN",
        "9005" => "REFUSED",
        // There is such a name, but nothing of that type.
        "9501" => "NODATA",
        "1460" => "TIMEOUT",
        other => return other.to_owned(),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let (kind, list) = answers("type:  5 www.example.org.;::ffff:192.0.2.1;2001:db8::1;");
        assert_eq!((kind, list.len()), ("AAAA", 3));
        assert_eq!(list[..2], ["www.example.org.", "192.0.2.1"]);
        assert_eq!(answers("-"), ("unknown", Vec::new()));
        assert_eq!(answers("type: 16 v=spf1;"), ("TXT", vec!["v=spf1".to_owned()]));
        assert_eq!(answers("type:"), ("unknown", vec!["type:".to_owned()]));
    }
}
