//! Every refusal that is known, and the sentence that a person reads.

use std::fmt::Write as _;

use countersign_providers::contract::ensure;
use countersign_providers::route53::{AssumeRole, Route53, Settings};
use countersign_providers::{Provider, ProviderError};

use crate::support::golden::{golden, root};
use crate::support::route53::Fault;
use crate::support::route53::store::Set;

use super::{apply, context, name, provider, put, settings, start, zone};

/// A code, the status it comes with, and what is said with it.
const CODES: [(&str, u16, &str); 31] = [
    (
        "AccessDenied",
        403,
        "User: arn:aws:iam::123456789012:user/dns is not authorized to perform this",
    ),
    (
        "InvalidClientTokenId",
        403,
        "The security token included in the request is invalid.",
    ),
    (
        "UnrecognizedClientException",
        403,
        "The security token included in the request is invalid.",
    ),
    (
        "SignatureDoesNotMatch",
        403,
        "The request signature we calculated does not match the signature you provided.",
    ),
    (
        "SignatureDoesNotMatch",
        403,
        "Signature expired: 20260101T000000Z is now earlier than 20260101T003000Z",
    ),
    ("RequestExpired", 400, "Request has expired."),
    (
        "ExpiredToken",
        403,
        "The security token included in the request is expired",
    ),
    (
        "IncompleteSignature",
        400,
        "Authorization header requires 'Signature' parameter.",
    ),
    (
        "MissingAuthenticationToken",
        403,
        "Missing Authentication Token",
    ),
    ("InvalidToken", 400, ""),
    (
        "OptInRequired",
        403,
        "The AWS Access Key Id needs a subscription for the service",
    ),
    (
        "SubscriptionRequiredException",
        403,
        "The AWS Access Key Id needs a subscription for the service",
    ),
    ("AccountProblem", 403, ""),
    (
        "NoSuchHostedZone",
        404,
        "No hosted zone found with ID: Z1EXAMPLE",
    ),
    ("HostedZoneNotFound", 404, ""),
    (
        "NoSuchChange",
        404,
        "A change with the specified id was not found.",
    ),
    ("InvalidDomainName", 400, ""),
    ("InvalidInput", 400, "Invalid id"),
    ("ValidationError", 400, ""),
    ("LimitsExceeded", 400, ""),
    (
        "PriorRequestNotComplete",
        400,
        "The request was rejected because Route 53 was still processing a prior request.",
    ),
    ("Throttling", 400, "Rate exceeded"),
    ("ThrottlingException", 400, "Rate exceeded"),
    ("RequestLimitExceeded", 400, "Request limit exceeded."),
    ("InternalFailure", 500, ""),
    (
        "ServiceUnavailable",
        503,
        "Service is unable to handle request.",
    ),
    ("RequestTimeout", 408, ""),
    ("UnknownOperationException", 404, ""),
    ("MalformedInput", 400, "Unexpected element"),
    ("NotAuthorizedException", 403, ""),
    ("SomethingNew", 418, "a short and stout reason"),
];

/// What a batch is refused for.
const BATCHES: [&str; 5] = [
    "[RRSet of type TXT with DNS name a.example.test. is not permitted because a conflicting RRSet of type CNAME with the \
     same DNS name already exists in zone example.test.]",
    "[RRSet with DNS name a.other.test. is not permitted in zone example.test.]",
    "[RRSet with DNS name a.example.test., type TXT, SetIdentifier null cannot be created as other RRSets exist with the \
     same name and type.]",
    "[Number of records limit of 10000 exceeded.]",
    "[Something that nobody has heard of]",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_code_has_its_kind_its_sentence_and_what_can_be_done() {
    let fake = start();
    let mut text = String::new();
    let mut tell = |code: &str, error: ProviderError| {
        let message = error.message.replace(
            fake.url()
                .trim_start_matches("http://")
                .trim_end_matches('/'),
            "HOST",
        );
        let hint = error.hint.unwrap_or_else(|| "-".to_owned());
        let _ = writeln!(
            text,
            "{code}: {:?}\n  {message}\n  hint: {hint}",
            error.kind
        );
        assert!(error.code.is_some());
        assert!(!message.ends_with('.'), "{message}");
    };
    let change = [ensure(&name("a"), "v")];
    for (code, status, said) in CODES {
        let fault = Fault::Refuse(status, code, said.to_owned());
        fake.fault("ChangeResourceRecordSets", fault);
        tell(code, apply(&fake, &change, &[]).await.unwrap_err());
    }
    for said in BATCHES {
        let fault = Fault::Refuse(400, "InvalidChangeBatch", said.to_owned());
        fake.fault("ChangeResourceRecordSets", fault);
        tell(
            "InvalidChangeBatch",
            apply(&fake, &change, &[]).await.unwrap_err(),
        );
    }
    for _ in 0..2 {
        let said = "[Tried to create resource record set [name='a.example.test.', type='TXT'] but it already exists]";
        let fault = Fault::Refuse(400, "InvalidChangeBatch", said.to_owned());
        fake.fault("ChangeResourceRecordSets", fault);
    }
    tell(
        "InvalidChangeBatch, twice",
        apply(&fake, &change, &[]).await.unwrap_err(),
    );
    let denied = || {
        Fault::Refuse(
            403,
            "AccessDenied",
            "User: arn:aws:iam::1:user/dns is not authorized".to_owned(),
        )
    };
    for call in [
        "ListHostedZonesByName",
        "ListResourceRecordSets",
        "GetChange",
        "Sts",
    ] {
        fake.fault(call, denied());
    }
    let provider = provider(&fake);
    tell(
        "AccessDenied",
        provider.zones(&name("a"), &context()).await.unwrap_err(),
    );
    tell(
        "AccessDenied",
        provider
            .observe(&zone(), &[name("a")], &context())
            .await
            .unwrap_err(),
    );
    tell(
        "AccessDenied",
        provider.settle("C1", &context()).await.unwrap_err(),
    );
    let role = AssumeRole {
        arn: "arn:aws:iam::123456789012:role/dns".to_owned(),
        external_id: None,
        session_name: None,
    };
    let provider = Route53::new(Settings {
        assume_role: Some(role),
        ..settings(&fake)
    });
    tell(
        "AccessDenied",
        provider.zones(&name("a"), &context()).await.unwrap_err(),
    );
    golden(&root().join("tests/route53/refusals.txt"), &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_at_a_cname_is_refused_and_the_others_stay_possible() {
    let fake = start();
    let alias = name("alias");
    let cname = Set {
        kind: "CNAME".to_owned(),
        ..Set::txt(alias.as_str(), 60, &["target.example.test"])
    };
    fake.state().zones[0].put(cname);
    put(&fake, &name("shared"), 777, &["\"theirs\""]);
    let before = fake.state().zones[0].clone();
    let both = [ensure(&alias, "v"), ensure(&name("shared"), "v")];
    let error = apply(&fake, &both, &[]).await.unwrap_err();
    assert!(
        error.message.contains("there is a CNAME at the name"),
        "{error:?}"
    );
    assert_eq!(fake.state().zones[0].sets, before.sets);
    apply(&fake, &both[1..], &[]).await.unwrap();
}
