import Control
import FuseFrontend
import Glibc
import HostIO
import Logging
import Primitives
import Replication
import Storage

/// A mount being served by this process, from open to close.
///
/// Order of a start: 1. the engine, whose lock makes this the only process; 2. the control socket, which may now replace
/// a dead one; 3. the mount; 4. "ready". Order of an end: 1. the mount goes, so no request comes any more; 2. the engine
/// closes: everything is durable; 3. who asked for the end is answered; 4. socket and pid file go; 5. the process ends.
final class MountDaemon: MountControl {
    struct Options: Sendable {
        var mountpoint: String
        var snapshot: String?
        var isReadOnly = false
        var cache = CacheMode.writethrough
        var allowsOthers = false
        var threads: Int?
        var userOptions: [String] = []
        var pidFile: String?
    }

    private enum End: Sendable { case running, closed(ToolError?) }

    private let target: Target
    private let options: Options
    private let host: any Host
    private let log: Logger
    private let end = Guarded(End.running)
    private let mounted = Guarded<FuseMount?>(nil)

    init(target: Target, options: Options, host: any Host, log: Logger) {
        self.target = target
        self.options = options
        self.host = host
        self.log = log
    }

    var mountpoint: String { options.mountpoint }
    var description: JSON {
        [
            "pid": .integer(Int64(getpid())), "mountpoint": .string(options.mountpoint),
            "snapshot": JSON(options.snapshot), "read_only": .bool(options.isReadOnly),
            "cache": .string(options.cache.rawValue),
        ]
    }

    /// Serves until the mount is gone.
    /// - Parameter ready: called once, when the volume can be used, with what its opening found.
    func run(ready: @escaping (RecoveryReport) -> Void) throws(ToolError) {
        let engine = try target.engine(options.isReadOnly ? .readOnly : .readWrite, host: host)
        log.info("opened \(target.path): \(engine.recovery.outcome.rawValue) at revision \(engine.recovery.revision)")
        for remark in engine.recovery.remarks { log.notice("\(remark)") }
        let service = VolumeService(engine: engine, target: target, host: host, mount: self)
        let server: ControlServer
        do throws(ToolError) {
            server = try duringIO("cannot listen for requests") { () throws(IOError) in
                try ControlServer(
                    directory: target.socketDirectory, name: target.socketName, service: service, host: host)
            }
        } catch {
            _ = try? engine.close()
            throw error
        }
        do throws(ToolError) {
            let mount = try attach(engine)
            try writePidFile()
            mounted.withLock { $0 = mount }
            log.info("serving \(target.path) at \(options.mountpoint)")
            mount.run { ready(engine.recovery) }
        } catch {
            server.stop(milliseconds: 0)
            _ = try? engine.close()
            throw error
        }
        log.info("unmounted from \(options.mountpoint)")
        service.events.close()
        try finish(engine, server)
    }

    /// Steps 2 to 4 of the end.
    private func finish(_ engine: Engine, _ server: ControlServer) throws(ToolError) {
        var failure: ToolError?
        do throws(ToolError) {
            if try during("cannot close \(target.path)", engine.close) {
                log.info("closed: everything is durable")
            } else {
                log.warning("closed: everything is durable, but the full disk keeps it in the journal")
            }
        } catch {
            log.error("\(error.message)")
            failure = error
        }
        end.withLock { $0 = .closed(failure) }
        end.wakeAll()
        server.stop(milliseconds: 5000)
        removePidFile()
        if let failure { throw failure }
    }

    private func attach(_ engine: Engine) throws(ToolError) -> FuseMount {
        let adapter = try MountAdapter(
            engine: engine, snapshot: options.snapshot, path: target.path, service: description)
        var mountOptions = MountOptions(
            sourceName: target.path, owner: geteuid(), group: getegid(),
            coreCount: sysconf(Int32(_SC_NPROCESSORS_ONLN)),
            now: { [host] in
                let time = host.wallClock()
                return time.seconds * 1_000_000_000 + Int64(time.nanoseconds)
            })
        mountOptions.isReadOnly = options.isReadOnly
        mountOptions.cache = options.cache
        mountOptions.allowsOthers = options.allowsOthers
        mountOptions.userOptions = options.userOptions
        if let threads = options.threads { mountOptions.threadCount = threads }
        do {
            return try FuseMount(volume: adapter, at: options.mountpoint, options: mountOptions)
        } catch {
            throw ToolError(exitCode(for: error), "cannot mount \(target.path): \(error)")
        }
    }

    private func exitCode(for failure: MountFailure) -> Exit {
        switch failure {
        case .mountPointMissing: .notFound
        case .notADirectory, .notEmpty: .usage
        case .deadMount, .busy: .inUse
        case .noFuseDevice, .permissionDenied, .notMounted, .refused, .system: .failed
        }
    }

    /// SIGTERM: ends the mount, also while it is in use.
    func stop() { mounted.withLock { $0 }?.stop() }

    // MARK: MountControl

    func unmount(lazy: Bool) throws(ToolError) {
        guard let mount = mounted.withLock({ $0 }) else { return }
        do {
            try mount.unmount(lazy ? .lazily : .whenIdle)
        } catch {
            switch error {
            case .busy:
                throw ToolError(
                    .inUse,
                    "\(options.mountpoint) is in use and stays mounted: close what uses it ('fuser -vm \(options.mountpoint)' shows it), or detach it with --force"
                )
            case .notMounted: return
            default: throw ToolError(.failed, "cannot unmount \(options.mountpoint): \(error)")
            }
        }
    }

    func waitUntilClosed() throws(ToolError) {
        let failure = end.wait { end -> ToolError?? in
            guard case .closed(let failure) = end else { return nil }
            return .some(failure)
        }
        if let failure { throw failure }
    }

    func sizeChanged() { mounted.withLock { $0 }?.volumeResized() }
    func forgetContent() { mounted.withLock { $0 }?.invalidateVolume() }
    var needsTruncateAfterResize: Bool { mounted.withLock { $0 }?.needsTruncateAfterResize ?? false }

    // MARK: Pid file

    private func writePidFile() throws(ToolError) {
        guard let path = options.pidFile else { return }
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o644)
        guard descriptor >= 0 else {
            throw ToolError(.failed, "cannot write the pid file \(path): \(errorText(errno))")
        }
        defer { close(descriptor) }
        let text = Array("\(getpid())\n".utf8)
        guard write(descriptor, text, text.count) == text.count else {
            throw ToolError(.failed, "cannot write the pid file \(path): \(errorText(errno))")
        }
    }

    private func removePidFile() {
        guard let path = options.pidFile, readSmallFile(path) == "\(getpid())\n" else { return }
        unlink(path)
    }
}
