import ArgumentParser
import Glibc
import HostIO
import Primitives
import Replication

struct Umount: ToolCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take a mount away; returns when everything is durable and the daemon has gone.",
        discussion: "A mount that is in use stays as it is, with exit code 11, unless --force detaches it.")

    @Argument(help: "The mount point, or the volume that is mounted.") var mountpoint: String
    @Flag(help: "Detach it also while it is in use; it ends when the last user has gone.") var force = false
    @Option(help: ArgumentHelp("Wait at most so many seconds.", valueName: "seconds")) var timeout: Int?
    @OptionGroup var globals: Globals

    func execute(_ context: Context) throws(ToolError) -> Exit {
        if let timeout, !(1...86_400).contains(timeout) {
            throw ToolError(.usage, "--timeout \(timeout): 1 to 86400 seconds are possible")
        }
        let entry = try find(context)
        if context.isDryRun("unmount \(entry.source) from \(entry.mountpoint)") { return .done }
        guard let session = try daemon(of: entry, context) else { return try detachOrphan(entry, context) }
        try end(session, entry, context)
        context.done(
            "unmounted \(entry.source) from \(entry.mountpoint); everything is durable",
            ["path": .string(entry.source), "mountpoint": .string(entry.mountpoint), "durable": true])
        return .done
    }

    private func find(_ context: Context) throws(ToolError) -> MountEntry {
        let mounts = MountEntry.all()
        // The last component may be a dead mount, which cannot be looked at: only what is above it is resolved.
        let (above, name) = split(
            mountpoint.count > 1 && mountpoint.hasSuffix("/") ? String(mountpoint.dropLast()) : mountpoint)
        let given = [absolutePath(mountpoint), name.isEmpty ? "/" : (absolutePath(above) + "/" + name)]
        if let entry = mounts.last(where: { given.contains($0.mountpoint) }) {
            if entry.isOurs { return entry }
            throw ToolError(.notFound, "\(printable(mountpoint)) is a mount of \(entry.type), not of replica-tool")
        }
        // The volume, or its replica, whichever of the two was mounted.
        if let target = try? Target(mountpoint, host: context.host),
            let entry = mounts.last(where: {
                $0.isOurs && ($0.source == target.path || $0.source == target.replicaPath)
            })
        {
            return entry
        }
        if !exists(mountpoint), errno == ENOENT {
            throw ToolError(.notFound, "\(printable(mountpoint)): no such mount point; check the path")
        }
        throw ToolError(
            .notFound, "nothing of replica-tool is mounted at \(printable(mountpoint)): see 'replica-tool list'")
    }

    /// nil when no daemon answers for this mount.
    private func daemon(of entry: MountEntry, _ context: Context) throws(ToolError) -> RemoteSession? {
        guard let target = try? Target(entry.source, host: context.host), let session = try target.served() else {
            return nil
        }
        // The volume may be mounted anew elsewhere while this mount is a dead one's.
        let place = try session.call("status")["served"]?["mountpoint"]?.text
        return place == entry.mountpoint ? session : nil
    }

    private func end(_ session: RemoteSession, _ entry: MountEntry, _ context: Context) throws(ToolError) {
        let process = session.process
        let host = context.host
        let deadline = timeout.map { host.monotonicNs() + UInt64($0) * 1_000_000_000 }
        let result = Guarded<Result<Void, ToolError>?>(nil)
        let asked = SendableSession(session)
        _ = host.startThread(name: "umount") { [force] in
            let end = Result<Void, ToolError> { () throws(ToolError) in
                _ = try asked.session.call("stop", ["lazy": .bool(force)])
            }
            result.withLock { $0 = end }
            result.wakeAll()
        }
        func late() -> ToolError {
            ToolError(
                .failed, "\(entry.source) is not closed after \(timeout ?? 0) s; process \(process) goes on by itself")
        }
        let answer: Result<Void, ToolError>
        if let deadline {
            let now = host.monotonicNs()
            guard let found = result.wait(forNs: deadline > now ? deadline - now : 0, until: { $0 }) else {
                throw late()
            }
            answer = found
        } else {
            answer = result.wait { $0 }
        }
        try answer.get()
        let now = host.monotonicNs()
        let left = deadline.map { $0 > now ? Int32(clamping: ($0 - now) / 1_000_000) : 0 } ?? -1
        let isGone = try duringIO("cannot wait for the daemon") { () throws(IOError) in
            try Processes.waitForExit(of: process, milliseconds: left)
        }
        if !isGone { throw late() }
    }

    /// Nobody answers: the daemon died, or its socket is gone.
    private func detachOrphan(_ entry: MountEntry, _ context: Context) throws(ToolError) -> Exit {
        var info = stat()
        let isDead = stat(entry.mountpoint, &info) != 0 && errno == ENOTCONN
        do throws(IOError) {
            try Processes.unmount(entry.mountpoint, lazy: isDead || force)
        } catch {
            switch error.code {
            case EPERM: try helperUnmount(entry.mountpoint, lazy: isDead || force)
            case EBUSY:
                throw ToolError(
                    .inUse,
                    "\(entry.mountpoint) is in use and stays mounted: close what uses it, or detach it with --force")
            default: throw ToolError(error, "cannot unmount")
            }
        }
        let what = isDead ? "its daemon had died" : "no daemon answered at its control socket"
        context.remark(
            "\(what): the mount at \(entry.mountpoint) was detached; the next open of \(entry.source) recovers it")
        context.done(
            "unmounted \(entry.source) from \(entry.mountpoint)",
            [
                "path": .string(entry.source), "mountpoint": .string(entry.mountpoint), "durable": false,
                "daemon_was_dead": .bool(isDead),
            ])
        return .done
    }

    private func helperUnmount(_ path: String, lazy: Bool) throws(ToolError) {
        let code = try ChildProcess.run("fusermount3", ["-u"] + (lazy ? ["-z"] : []) + ["--", path])
        guard code == 0 else {
            throw ToolError(
                .inUse, "cannot unmount \(path): fusermount3 ended with \(code); close what uses it, or add --force")
        }
    }
}

/// Handed to one thread, which alone uses it from then on.
private final class SendableSession: @unchecked Sendable {
    let session: RemoteSession
    init(_ session: RemoteSession) { self.session = session }
}
