//! The chain of receipts of one executor to one origin, and how anyone can check it.
//!
//! An executor numbers its receipts to an origin from 1, and each names the hash of the one before, as it was signed. The
//! origin answers each with a countersigned verdict. Both keep both. So neither can leave out, change or add one later
//! without the other holding the proof. The hard case is an executor that signs two receipts under one number: each looks
//! sound to whoever sees only that one, and together they are the evidence.

use jobmesh_keys::{Domain, Identity, MeshId, NodeId, Signature, verify};
use serde::Serialize;
use serde_bytes::ByteBuf;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::cbor::{self, DecodeError};
use crate::envelope::{Envelope, Kind};
use crate::id::{Hash, ReceiptId};
use crate::receipt::Receipt;
use crate::ticket::Settle;
use crate::time::UnixMillis;

/// What the first receipt of a chain names as the one before it.
pub const BEGINNING: Hash = Hash::from_bytes([0; 32]);
/// Most links of one chain in an export: the newest. At some 700 bytes each, what fits well into memory.
pub const LINKS_MAX: usize = 65_536;
/// Largest export: two chains of the largest receipts that are usual, with room.
pub const EXPORT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Most findings that are named one by one; the rest is counted.
pub const FINDINGS_MAX: usize = 1000;

/// A receipt as its executor signed it, and the origin's answer if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Link {
    /// The envelope of the receipt.
    pub receipt: ByteBuf,
    /// The envelope of the settlement.
    pub settle: Option<ByteBuf>,
}

impl Link {
    /// Makes a link of the two envelopes.
    #[must_use]
    pub fn new(receipt: Vec<u8>, settle: Option<Vec<u8>>) -> Self {
        Self { receipt: ByteBuf::from(receipt), settle: settle.map(ByteBuf::from) }
    }
}

/// The receipts of one node to another, by number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Chain {
    /// Who ran the work and signed the receipts.
    pub executor: NodeId,
    /// Whose work it was and who countersigned.
    pub origin: NodeId,
    /// Its links, lowest number first.
    pub links: Vec<Link>,
}

/// What one node has of the chains between it and another, for whoever wants to check them elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Export {
    /// The mesh of both.
    pub mesh: MeshId,
    /// When it was written, on the author's clock.
    pub at: UnixMillis,
    /// The chains, in both directions.
    pub chains: Vec<Chain>,
}

/// The layout of an export: the signature covers the hash of the body as it is written.
#[derive(Serialize_tuple, Deserialize_tuple)]
struct Signed {
    version: u8,
    author: NodeId,
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    signature: Signature,
}

/// The version of the layout of an export.
const VERSION: u8 = 1;

/// Why bytes are no export.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// They do not decode.
    #[error("the file is no export of receipts, or was cut or changed")]
    Decode(#[from] DecodeError),
    /// A layout that this build does not know.
    #[error("the export has version {found}, this build knows {VERSION}; use the release that wrote it")]
    Version {
        /// The version found.
        found: u8,
    },
    /// It is not as its author wrote it.
    #[error(
        "the signature of {author} is not good for this export: it was changed since, or {author} did not write it"
    )]
    Signature {
        /// Who is said to have written it.
        author: NodeId,
    },
}

impl Export {
    /// Signs an export and returns the bytes of the file.
    #[must_use]
    pub fn seal(&self, identity: &Identity) -> Vec<u8> {
        let body = cbor::encode(self);
        let signature = identity.sign(Domain::Export, Hash::of(&body).as_bytes());
        cbor::encode(&Signed { version: VERSION, author: identity.node(), body, signature })
    }

    /// Reads a file, checks that it is as its author wrote it, and says who that is: whose database it is from. What it
    /// holds is for [`Auditor`] to check.
    ///
    /// # Errors
    /// [`ExportError`] if it is malformed, of another version or changed.
    pub fn open(bytes: &[u8]) -> Result<(NodeId, Self), ExportError> {
        let signed: Signed = cbor::decode(bytes, EXPORT_BYTES_MAX)?;
        if signed.version != VERSION {
            return Err(ExportError::Version { found: signed.version });
        }
        let (author, hash) = (signed.author, Hash::of(&signed.body));
        verify(&author, Domain::Export, hash.as_bytes(), &signed.signature)
            .map_err(|_| ExportError::Signature { author })?;
        Ok((author, cbor::decode(&signed.body, EXPORT_BYTES_MAX)?))
    }
}

/// What is wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The receipt is not signed by the executor for this mesh and origin.
    BadReceipt,
    /// Receipts before this one are missing.
    Gap,
    /// Another receipt has the same number.
    Fork,
    /// It does not name the receipt before it.
    Torn,
    /// It stands in the wrong place, or twice.
    Order,
    /// The origin has not countersigned it.
    Unsettled,
    /// What stands for its countersignature is not signed by the origin, or speaks of another receipt.
    BadSettle,
}

impl Fault {
    /// The words for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::BadReceipt => "is not signed by the executor for this origin",
            Self::Gap => "does not follow: receipts before it are missing",
            Self::Fork => "has the number of another receipt: the executor signed two, or its database is an old one",
            Self::Torn => "names another receipt before it than the one that is here",
            Self::Order => "stands in the wrong place, or twice",
            Self::Unsettled => "has no countersignature of the origin",
            Self::BadSettle => "has a countersignature that is not the origin's for this receipt",
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The place in the chain as it was given, from 1.
    pub place: u64,
    /// The number of the receipt, if it can be read.
    pub number: Option<u64>,
    /// What is wrong.
    pub fault: Fault,
    /// How many receipts are missing, in a gap.
    pub missing: u64,
}

/// What the check of a chain found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Who ran the work.
    pub executor: NodeId,
    /// Whose work it was.
    pub origin: NodeId,
    /// How many links there are.
    pub receipts: u64,
    /// How many of them are countersigned.
    pub settled: u64,
    /// The lowest number. What was before is not here: links are kept for a while only.
    pub first: Option<u64>,
    /// The highest number.
    pub last: Option<u64>,
    /// The hash of the last receipt: two ends that have the same one have the same chain.
    pub head: Option<Hash>,
    /// What is wrong, in the order of the chain.
    pub findings: Vec<Finding>,
    /// How many findings there are beside those.
    pub more: u64,
}

impl Audit {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Checks a chain, link by link.
#[derive(Debug)]
pub struct Auditor {
    mesh: MeshId,
    audit: Audit,
    /// The receipts that have the last number: more than one in a fork.
    tips: Vec<Hash>,
}

/// Most receipts of one number that a later one may follow.
const TIPS_MAX: usize = 16;

impl Auditor {
    /// Begins the check of a chain between two nodes of a mesh.
    #[must_use]
    pub const fn new(mesh: MeshId, executor: NodeId, origin: NodeId) -> Self {
        let findings = Vec::new();
        let (receipts, settled, more) = (0, 0, 0);
        let audit = Audit { executor, origin, receipts, settled, first: None, last: None, head: None, findings, more };
        Self { mesh, audit, tips: Vec::new() }
    }

    /// Checks a whole chain.
    #[must_use]
    pub fn check(mesh: MeshId, chain: &Chain) -> Audit {
        let mut auditor = Self::new(mesh, chain.executor, chain.origin);
        chain.links.iter().for_each(|link| auditor.take(link));
        auditor.finish()
    }

    /// Checks the next link.
    pub fn take(&mut self, link: &Link) {
        self.audit.receipts += 1;
        let Some((id, receipt)) = self.open(&link.receipt) else {
            return self.find(None, Fault::BadReceipt);
        };
        self.place(&receipt, Hash::of(&link.receipt));
        let fault = match &link.settle {
            None => Some(Fault::Unsettled),
            Some(settle) if self.is_settled(settle, id, &receipt) => None,
            Some(_) => Some(Fault::BadSettle),
        };
        match fault {
            None => self.audit.settled += 1,
            Some(fault) => self.find(Some(receipt.number), fault),
        }
    }

    /// What was found.
    #[must_use]
    pub fn finish(self) -> Audit {
        self.audit
    }

    fn open(&self, bytes: &[u8]) -> Option<(ReceiptId, Receipt)> {
        let envelope = Envelope::open(bytes, &self.mesh).ok()?;
        let receipt: Receipt = envelope.parse().ok()?;
        let is_its = envelope.kind() == Kind::Receipt && envelope.signer() == self.audit.executor;
        (is_its && receipt.to == self.audit.origin && receipt.is_bounded()).then(|| (envelope.id(), receipt))
    }

    fn is_settled(&self, bytes: &[u8], id: ReceiptId, receipt: &Receipt) -> bool {
        let Ok(envelope) = Envelope::open(bytes, &self.mesh) else { return false };
        let is_its = envelope.kind() == Kind::Settle && envelope.signer() == self.audit.origin;
        let names = |settle: Settle| {
            (settle.receipt, settle.number, settle.ticket, settle.epoch, settle.to)
                == (id, receipt.number, receipt.ticket, receipt.epoch, self.audit.executor)
        };
        is_its && envelope.parse().is_ok_and(names)
    }

    /// Checks that a receipt follows the ones before it.
    fn place(&mut self, receipt: &Receipt, hash: Hash) {
        let number = receipt.number;
        let Some(last) = self.audit.last else {
            if number == 1 && receipt.previous != BEGINNING {
                self.find(Some(number), Fault::Torn);
            }
            self.audit.first = Some(number);
            return self.advance(number, hash);
        };
        if number == last {
            let fault = if self.tips.contains(&hash) { Fault::Order } else { Fault::Fork };
            self.find(Some(number), fault);
            if fault == Fault::Fork && self.tips.len() < TIPS_MAX {
                self.tips.push(hash);
            }
        } else if number < last {
            self.find(Some(number), Fault::Order);
        } else {
            if number > last + 1 {
                self.find_gap(number, number - last - 1);
            } else if !self.tips.contains(&receipt.previous) {
                self.find(Some(number), Fault::Torn);
            }
            self.advance(number, hash);
        }
    }

    fn advance(&mut self, number: u64, hash: Hash) {
        (self.audit.last, self.audit.head) = (Some(number), Some(hash));
        self.tips = vec![hash];
    }

    fn find(&mut self, number: Option<u64>, fault: Fault) {
        self.push(Finding { place: self.audit.receipts, number, fault, missing: 0 });
    }

    fn find_gap(&mut self, number: u64, missing: u64) {
        self.push(Finding { place: self.audit.receipts, number: Some(number), fault: Fault::Gap, missing });
    }

    fn push(&mut self, finding: Finding) {
        if self.audit.findings.len() < FINDINGS_MAX {
            self.audit.findings.push(finding);
        } else {
            self.audit.more += 1;
        }
    }
}
