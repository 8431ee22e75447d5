public import HostIO
public import Primitives

/// What can go wrong in a replica or a volume, other than a mistake of ours.
public enum StoreError: Error, Sendable, Equatable {
    /// The file system has no room. Nothing that was acknowledged is lost, and the operation had no effect. A write of
    /// more than 1 MiB, or the emptying of a range whose ends lie inside blocks, is several operations.
    case noSpace(IOError?)
    /// The host refused a call. The replica goes on if the call was a read, and is ERR if it was a write or a flush.
    case io(IOError)
    /// Bytes of the volume do not match their checksum and no good copy exists.
    case damagedBlocks(BlockRange, path: String)
    /// A structure of the replica (super, map page, manifest, chain, journal) does not verify.
    case damagedMetadata(path: String, what: String)
    /// The replica stopped after an error and is kept for salvage: the recorded reason.
    case replicaFailed(String)
    /// The request reaches beyond the volume.
    case outOfRange(offset: UInt64, length: UInt64, size: UInt64)
    /// A write on something that is open read-only: why.
    case readOnly(String)
    /// No such volume, replica or snapshot.
    case notFound(String)
    /// The name is taken.
    case exists(String)
    /// Another process, or a mount, has it: who, if known.
    case inUse(String)
    /// The snapshot is protected, has dependants, or the request is refused for another stated reason.
    case refused(String)
    /// A bad argument: what is wrong and what would be right.
    case invalid(String)
    /// The directory is not of this project, or of a newer format.
    case unsupportedFormat(String)
    /// The volume is being closed.
    case closed
    /// The caller asked to stop.
    case cancelled
}

extension StoreError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .noSpace(let cause):
            return "no space left" + (cause.map { ": \($0)" } ?? "")
        case .io(let error): return error.description
        case .damagedBlocks(let range, let path):
            return "\(path): \(range) do not match their checksums"
        case .damagedMetadata(let path, let what): return "\(path): \(what)"
        case .replicaFailed(let reason): return "the replica is ERR: \(reason)"
        case .outOfRange(let offset, let length, let size):
            return "bytes \(offset)+\(length) are beyond the volume's \(size) bytes"
        case .readOnly(let why): return "read-only: \(why)"
        case .notFound(let what): return "\(what) not found"
        case .exists(let what): return "\(what) exists already"
        case .inUse(let what): return what
        case .refused(let why): return why
        case .invalid(let why): return why
        case .unsupportedFormat(let what): return what
        case .closed: return "the volume is closed"
        case .cancelled: return "cancelled"
        }
    }
}

/// Makes calls to the host; a full disk and other errors become the store's own.
@inline(__always)
func calling<Result>(_ body: () throws(IOError) -> Result) throws(StoreError) -> Result {
    do throws(IOError) {
        return try body()
    } catch {
        throw error.isNoSpace ? .noSpace(error) : .io(error)
    }
}
