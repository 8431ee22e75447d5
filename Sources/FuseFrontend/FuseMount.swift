internal import CFuse3
internal import Glibc
internal import Primitives
internal import Synchronization

/// A volume mounted through FUSE.
///
/// The order of calls: `init` mounts, `run` serves on threads of its own and blocks until the mount has ended, by
/// `unmount` or `stop` from another thread, or by `umount` or `fusermount3 -u` from another process. A process that
/// dies leaves a mount that answers ENOTCONN and can be unmounted.
public final class FuseMount: Sendable {
    /// Without symbolic links.
    public let mountPoint: String
    private let server: Server
    private let session: Session
    private let pool: WorkerPool
    private let life: Guarded<Life>

    /// Whether the session may still be used, and by how many calls it is.
    private struct Life {
        var isEnded = false
        var isRunning = false
        var userCount = 0
    }

    /// Mounts `volume` and does the handshake with the kernel. Requests wait until `run`.
    /// - Throws: what keeps the mount from being made; nothing is left behind then.
    public init(volume: any MountedVolume, at path: String, options: MountOptions) throws(MountFailure) {
        let (options, allowsFilesBelow) = options.normalised()
        mountPoint = try MountPoint.check(path, allowsFilesBelow: allowsFilesBelow)
        let code = rs_fuse_install_wake_handler()
        if code != 0 { throw .system(call: "sigaction", path: path, code: -code) }
        server = Server(volume: volume, options: options)
        session = try Session(server: server, mountPoint: mountPoint)
        pool = WorkerPool(session: session)
        life = Guarded(Life())
    }

    deinit {
        // A mount that was never served must not stay, nor block those who look at it.
        if life.withLock({ !$0.isEnded }) {
            try? unmountFileSystem(at: mountPoint, device: session.device, lazily: true)
            session.destroy()
        }
    }

    /// Serves requests; once. Returns when the mount has ended, all requests are answered and all threads are gone.
    /// - Parameter onReady: called, on this thread, as soon as the mount answers.
    public func run(onReady: () -> Void = {}) {
        let isFirst = life.withLock { life in
            defer { life.isRunning = true }
            return !life.isRunning && !life.isEnded
        }
        invariant(isFirst, "a mount is served once")
        pool.run(threadCount: server.options.threadCount, onReady: onReady)
        // Left mounted only when threads could read no more though nobody unmounted; then nobody serves it either.
        try? unmountFileSystem(at: mountPoint, device: session.device, lazily: true)
        life.withLock { $0.isEnded = true }
        let none: Bool = life.wait { $0.userCount == 0 ? true : nil }
        invariant(none, "the session is in use")
        session.destroy()
    }

    /// Ends the mount: unmounts it, and when files are open detaches it, lets the requests under way end, and cuts the
    /// connection (open files then give ENOTCONN). For SIGTERM; from any thread but `run`'s. `run` returns soon after.
    public func stop() {
        do throws(MountFailure) {
            try unmount(.whenIdle)
        } catch {
            try? unmount(.lazily)
            pool.stop()
        }
    }

    /// How the mount is taken away.
    public enum Unmounting: Sendable, Hashable {
        /// Only when no file is open and nobody stands in the mount.
        case whenIdle
        /// Takes the mount out of sight at once; it ends when the last open file is closed.
        case lazily
    }

    /// umount2(2); `run` returns when it has taken effect.
    /// - Throws: `busy`, and the mount goes on as before; `notMounted`.
    public func unmount(_ how: Unmounting) throws(MountFailure) {
        try unmountFileSystem(at: mountPoint, device: session.device, lazily: how == .lazily)
    }

    /// Makes the kernel forget what it keeps of the volume's content; changed pages are written first. For a revert
    /// while mounted: once before, so that no older page is written afterwards, and once after.
    ///
    /// The call waits for those writes, so it is made on a thread that serves no request and holds no lock that a
    /// write needs.
    public func invalidateVolume() {
        server.noteModified()
        notify { fuse_lowlevel_notify_inval_inode($0, fuse_ino_t(Node.volume), 0, 0) }
    }

    /// Makes the kernel ask for the volume's size again.
    ///
    /// In `writeback` mode the kernel trusts its own size instead. There another process (not this one, which must not
    /// wait for itself) has to call truncate(2) on the file with the new size; see `needsTruncateAfterResize`.
    public func volumeResized() {
        notify { fuse_lowlevel_notify_inval_inode($0, fuse_ino_t(Node.volume), -1, 0) }
    }

    /// Whether a resize needs a truncate(2) to the new size from another process.
    public var needsTruncateAfterResize: Bool { server.options.cache == .writeback && !server.options.isReadOnly }

    private func notify(_ send: (OpaquePointer) -> Int32) {
        let isAlive = life.withLock { life in
            if life.isEnded { return false }
            life.userCount += 1
            return true
        }
        if !isAlive { return }
        // ENOENT: the kernel knows nothing of the file, so there is nothing to forget.
        _ = send(session.pointer)
        life.withLock { $0.userCount -= 1 }
        life.wakeAll()
    }
}
