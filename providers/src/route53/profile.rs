//! What the library of credentials does not read of a profile in `~/.aws/config`: roles taken with another profile's
//! credential, and sessions of IAM Identity Center that several profiles share.

use ini::{Ini, Properties};
use reqsign_aws_v4::SSOCredentialProvider;
use reqsign_core::{Context, Error, Result};

use super::AssumeRole;

/// The file, unless the environment names another.
const CONFIG: &str = "~/.aws/config";

/// A profile.
pub(super) struct Profile {
    /// The role that it takes, and with what.
    pub(super) role: Option<(AssumeRole, Base)>,
    /// The shared session that it uses.
    pub(super) sso: Option<SSOCredentialProvider>,
}

/// The credential that a role is taken with.
pub(super) enum Base {
    Profile(String),
    Environment,
    Container,
    Instance,
    /// A token in this file.
    WebIdentity(String),
}

/// Reads the profile `name`; `None` where the file or the profile is not there.
pub(super) async fn read(context: &Context, name: &str) -> Result<Option<Profile>> {
    let path = context.env_var("AWS_CONFIG_FILE");
    let path = context.expand_home_dir(path.as_deref().unwrap_or(CONFIG));
    let Some(path) = path else { return Ok(None) };
    let Ok(text) = context.file_read_as_string(&path).await else {
        return Ok(None);
    };
    let file = Ini::load_from_str(&text)
        .map_err(|error| Error::config_invalid(format!("{path} cannot be read: {error}")))?;
    let section = match name {
        "default" => name.to_owned(),
        name => format!("profile {name}"),
    };
    let Some(profile) = file.section(Some(section)) else {
        return Ok(None);
    };
    Ok(Some(Profile {
        role: role(name, profile)?,
        sso: sso(&file, name, profile)?,
    }))
}

fn role(name: &str, profile: &Properties) -> Result<Option<(AssumeRole, Base)>> {
    let text = |key: &str| profile.get(key).map(str::to_owned);
    let Some(arn) = text("role_arn") else {
        return Ok(None);
    };
    let base = if let Some(file) = text("web_identity_token_file") {
        Base::WebIdentity(file)
    } else if let Some(source) = text("source_profile") {
        Base::Profile(source)
    } else {
        match profile.get("credential_source") {
            Some("Environment") => Base::Environment,
            Some("EcsContainer") => Base::Container,
            Some("Ec2InstanceMetadata") => Base::Instance,
            _ => {
                return Err(Error::config_invalid(format!(
                    "the profile `{name}` has a role_arn, but neither source_profile nor credential_source nor \
                     web_identity_token_file"
                )));
            }
        }
    };
    let role = AssumeRole {
        arn,
        external_id: text("external_id"),
        session_name: text("role_session_name"),
    };
    Ok(Some((role, base)))
}

/// The token of a shared session is kept under the session's name where that of a profile's own is kept under its start
/// URL, which is all that the library uses the URL for.
fn sso(file: &Ini, name: &str, profile: &Properties) -> Result<Option<SSOCredentialProvider>> {
    let Some(session) = profile.get("sso_session") else {
        return Ok(None);
    };
    let section = file.section(Some(format!("sso-session {session}")));
    let region = section.and_then(|section| section.get("sso_region"));
    let parts = (
        profile.get("sso_account_id"),
        profile.get("sso_role_name"),
        region,
    );
    let (Some(account), Some(role), Some(region)) = parts else {
        return Err(Error::config_invalid(format!(
            "the profile `{name}` uses the sso-session `{session}`, but sso_account_id, sso_role_name or the session's \
             sso_region is missing"
        )));
    };
    let provider = SSOCredentialProvider::new()
        .with_account_id(account)
        .with_region(region)
        .with_role_name(role)
        .with_start_url(session);
    Ok(Some(provider))
}
