//! What zones and names are called at Azure. Pure.

use crate::http::said;
use crate::record::{DnsName, Zone};
use crate::{ErrorKind, ProviderError};

/// `name` without the zone; `@` for the apex.
pub(super) fn relative<'n>(name: &'n DnsName, zone: &Zone) -> &'n str {
    let front = name.as_str().strip_suffix(zone.name.as_str());
    match front.unwrap_or(name.as_str()).trim_end_matches('.') {
        "" => "@",
        front => front,
    }
}

/// Whether `id` is that of a DNS zone: `/subscriptions/…/resourceGroups/…/providers/Microsoft.Network/dnsZones/…`.
pub fn is_zone_id(id: &str) -> bool {
    let parts: Vec<&str> = id.split('/').collect();
    let ["", a, subscription, b, group, c, d, e, zone] = parts[..] else {
        return false;
    };
    let fixed = [a, b, c, d, e].join("/");
    let is_fixed = fixed
        .eq_ignore_ascii_case("subscriptions/resourceGroups/providers/Microsoft.Network/dnsZones");
    let is_good =
        |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['?', '#', '%', '\\']);
    // Groups are named in any script.
    let is_group = (group.chars()).all(|c| c.is_ascii() || c.is_alphanumeric());
    is_fixed
        && is_group
        && [subscription, zone].into_iter().all(str::is_ascii)
        && [subscription, group, zone].into_iter().all(is_good)
}

/// The path of the zone, segment by segment.
pub(super) fn segments(zone: &Zone) -> Result<Vec<String>, ProviderError> {
    if !is_zone_id(&zone.id) {
        let message = format!(
            "the zone {} has no resource id of Azure, but {}",
            zone.name,
            said(&zone.id)
        );
        return Err(ProviderError::new(ErrorKind::ZoneMissing, message));
    }
    Ok(zone.id.split('/').skip(1).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_of_a_zone_is_one() {
        let id = "/subscriptions/s/resourcegroups/g/providers/Microsoft.Network/dnszones/a.test";
        assert!(is_zone_id(id));
        assert!(is_zone_id(&id.replace("/g/", "/Größe-ゾーン/")));
        assert!(!is_zone_id(&id.replace("/g/", "/g\u{202e}/")));
        for wrong in [
            "",
            "a.test",
            &id[1..],
            &format!("{id}/TXT"),
            &id.replace("/g/", "//"),
            &id.replace("/g/", "/../"),
            &id.replace("dnszones", "privateDnsZones"),
            &id.replace("a.test", "a?b"),
        ] {
            assert!(!is_zone_id(wrong), "{wrong}");
        }
    }
}
