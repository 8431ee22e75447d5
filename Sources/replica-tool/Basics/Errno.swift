import Glibc
import HostIO
import Storage

extension IOError {
    var isBusy: Bool { code == EBUSY || code == EAGAIN || code == ETXTBSY }
    var isTooLarge: Bool { code == EFBIG }
    var isPermission: Bool { code == EACCES || code == EPERM }
}

/// The one table from the store's errors to what a program sees on the mount.
func errnoCode(for error: StoreError) -> Int32 {
    switch error {
    case .noSpace: ENOSPC
    case .io(let cause): cause.isNoSpace ? ENOSPC : EIO
    case .damagedBlocks, .damagedMetadata, .replicaFailed, .closed: EIO
    case .outOfRange: ENOSPC
    case .readOnly: EROFS
    case .notFound: ENOENT
    case .exists: EEXIST
    case .inUse, .refused: EBUSY
    case .invalid: EINVAL
    case .unsupportedFormat: EOPNOTSUPP
    case .cancelled: EINTR
    }
}
