//! Deliberate bugs. Each is a way in which a worker, or the engine under it, could be wrong; the worker of the simulator
//! asks for them at the place in question. A simulator that does not catch them all proves nothing.

/// A deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// The leaf key is saved with the certificate, not before the CSR is sent.
    KeySavedLate,
    /// A value is saved when the host has it, not before the host is asked.
    ValueNotedLate,
    /// The authority is told to look as soon as the host has said yes.
    RespondsUnproven,
    /// The value is withdrawn when the response is sent, not when the authority has decided.
    WithdrawsTooEarly,
    /// The order's URL is remembered and not saved.
    OrderUrlNotSaved,
    /// A failed attempt is closed without releasing its records.
    ForgetsWithdrawal,
    /// An entry is forgotten as soon as the host says that the value is gone.
    NoTombstone,
    /// Retry-After is not read.
    IgnoresRetryAfter,
    /// Retry-After does not survive a restart.
    FloorForgottenAtRestart,
    /// The RRset is removed, not the value.
    RemovesWholeRrset,
    /// Every CSR gets a new key.
    FinalizesTwiceWithNewKey,
    /// The end of the attempt is saved first, the certificate in a second commit.
    CertificateSavedWithoutAttempt,
    /// The attempt hears of the release before the ledger has saved it.
    ReleasesBeforeLedgerSaved,
    /// Every failure of the host is taken as proof that the value is not there.
    RefusalTakenAsAbsent,
    /// A response that was sent before a crash is taken as received.
    ResponseAssumedAfterCrash,
    /// What a target shows is not looked at after a start.
    DeliveryNotInspected,
    /// A restart begins every open attempt anew.
    SecondOrderAfterCrash,
    /// A refused batch is not split.
    BatchNotSplit,
    /// A doubt about a value does not survive a restart.
    DoubtForgottenAtRestart,
    /// A new generation is saved and its delivery is not.
    DeliveryNotSaved,
}

impl Mutant {
    pub(super) const ALL: [Self; 20] = [
        Self::KeySavedLate,
        Self::ValueNotedLate,
        Self::RespondsUnproven,
        Self::WithdrawsTooEarly,
        Self::OrderUrlNotSaved,
        Self::ForgetsWithdrawal,
        Self::NoTombstone,
        Self::IgnoresRetryAfter,
        Self::FloorForgottenAtRestart,
        Self::RemovesWholeRrset,
        Self::FinalizesTwiceWithNewKey,
        Self::CertificateSavedWithoutAttempt,
        Self::ReleasesBeforeLedgerSaved,
        Self::RefusalTakenAsAbsent,
        Self::ResponseAssumedAfterCrash,
        Self::DeliveryNotInspected,
        Self::SecondOrderAfterCrash,
        Self::BatchNotSplit,
        Self::DoubtForgottenAtRestart,
        Self::DeliveryNotSaved,
    ];
}
