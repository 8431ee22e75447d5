internal import CFuse3
internal import Glibc

/// umount2(2), by `fusermount3 -u` where that needs its privilege. It waits for nothing that this process serves: a
/// mount without open files has no changed pages left to send, since close(2) sends them.
/// - Parameter device: of the mount that is meant; another one stacked at the path is left alone.
/// - Throws: `busy` when files are open and not `lazily`; `notMounted`.
func unmountFileSystem(at path: String, device: String, lazily: Bool) throws(MountFailure) {
    guard let top = MountTableEntry.top(at: path), top.device == device else { throw .notMounted(path: path) }
    let result = rs_fuse_unmount(path, lazily ? 1 : 0)
    switch -result {
    case 0: return
    case EBUSY: throw .busy(path: path)
    case EPERM: try unmountByHelper(at: path, lazily: lazily)
    case EINVAL, ENOENT: throw .notMounted(path: path)
    default: throw .system(call: "umount2", path: path, code: -result)
    }
}

/// The helper says only that it failed, not why; a mount that is still there is in use.
private func unmountByHelper(at path: String, lazily: Bool) throws(MountFailure) {
    let arguments = ["fusermount3", "-u", "-q"] + (lazily ? ["-z"] : []) + ["--", path]
    var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
    pointers.append(nil)
    defer { for pointer in pointers { free(pointer) } }
    var child = pid_t()
    let failure = posix_spawnp(&child, "fusermount3", nil, nil, pointers, nil)
    if failure != 0 { throw .system(call: "posix_spawnp fusermount3", path: path, code: failure) }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 {
        if errno != EINTR { throw .system(call: "waitpid", path: path, code: errno) }
    }
    if status != 0 { throw .busy(path: path) }
}
