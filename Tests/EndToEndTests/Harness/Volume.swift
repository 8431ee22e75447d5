import CEndToEnd
import Foundation

/// A volume made by the tool, in a test's folder, with its one mount point.
final class Volume {
    let scratch: Scratch
    let path: String
    let mountPoint: String
    private let pidFile: String
    private var watchdog: Watchdog?

    /// Makes the volume with `create`.
    /// - Parameter place: the folder that it is made in; mount point and pid file are in the test's own in any case.
    init(in scratch: Scratch, size: String, place: String? = nil, flags: [String] = []) throws {
        self.scratch = scratch
        path = (place ?? scratch.path) + "/vol"
        mountPoint = try scratch.folder("vol-mnt")
        pidFile = scratch("vol.pid")
        try tool(["create", path, "--size", size] + flags)
    }

    /// A volume that is there already.
    init(in scratch: Scratch, existing name: String) throws {
        self.scratch = scratch
        path = scratch(name)
        mountPoint = try scratch.folder(name + "-mnt")
        pidFile = scratch(name + ".pid")
    }

    /// The file that users read and write.
    var file: String { mountPoint + "/volume" }
    func snapshotFile(_ name: String) -> String { mountPoint + "/snapshots/" + name }

    /// The replica's directory: the one that holds `super`.
    func replica() throws -> String {
        let found = try scratch.must("find", path, "-name", "super", "-printf", "%h\\n").split(separator: "\n")
        guard found.count == 1 else { throw HarnessError("\(path) holds \(found.count) replicas") }
        return String(found[0])
    }

    /// Runs the tool; it must succeed.
    @discardableResult
    func tool(_ arguments: [String], seconds: Int = 120) throws -> String {
        let result = try Running([Machine.tool] + arguments, in: scratch).wait(seconds: seconds)
        guard result.succeeded else { throw HarnessError(result.description) }
        return result.output
    }

    /// Runs the tool, whatever comes of it.
    func attempt(_ arguments: [String], seconds: Int = 120) throws -> CommandResult {
        try Running([Machine.tool] + arguments, in: scratch).wait(seconds: seconds)
    }

    func snapshot(_ name: String) throws { try tool(["snapshot", "create", "\(path)@\(name)"]) }
    func deleteSnapshot(_ name: String) throws { try tool(["snapshot", "delete", "\(path)@\(name)", "--yes"]) }

    // MARK: The mount

    /// Mounts it. A daemon that still answers nothing after `limit` seconds is killed, so that a hang becomes a failure.
    /// Returns what the tool said, remarks on stderr included.
    @discardableResult
    func mount(_ flags: [String] = [], limit: Int = 300) throws -> String {
        try? FileManager.default.removeItem(atPath: pidFile)
        let said = try attempt(["mount", path, mountPoint, "--pidfile", pidFile] + flags)
        guard said.succeeded else { throw HarnessError(said.description) }
        watchdog = Watchdog(pid: try daemon(), seconds: limit)
        return said.output + said.errors
    }

    /// The daemon's process.
    func daemon() throws -> pid_t {
        let text = (try? String(contentsOfFile: pidFile, encoding: .utf8)) ?? ""
        guard let pid = pid_t(text.trimmingCharacters(in: .whitespacesAndNewlines)) else {
            throw HarnessError("\(pidFile) holds \"\(text)\"")
        }
        return pid
    }

    /// Unmounts it with the tool; the daemon must have gone when the tool returns.
    func unmount() throws {
        let pid = try daemon()
        try tool(["umount", mountPoint])
        watchdog = nil
        guard ce_wait_gone(pid, 0) == 1 else { throw HarnessError("umount returned and daemon \(pid) is still there") }
    }

    /// kill -9, and the dead mount away.
    func killDaemon() throws {
        let pid = try daemon()
        kill(pid, SIGKILL)
        guard ce_wait_gone(pid, 20_000) == 1 else { throw HarnessError("daemon \(pid) outlives SIGKILL") }
        watchdog = nil
        try scratch.must("umount", "-l", mountPoint)
    }

    /// Mounts it, calls `body`, unmounts it in order; after an error the daemon is killed instead.
    func mounted<Result>(_ flags: [String] = [], limit: Int = 300, _ body: () throws -> Result) throws -> Result {
        try mount(flags, limit: limit)
        let result: Result
        do {
            result = try body()
        } catch {
            try? killDaemon()
            throw error
        }
        try unmount()
        return result
    }

    /// A number of /proc/PID/status of the daemon, in KiB.
    func memoryKiB(_ name: String) throws -> Int {
        let status = try String(contentsOfFile: "/proc/\(daemon())/status", encoding: .utf8)
        for line in status.split(separator: "\n") where line.hasPrefix(name + ":") {
            if let value = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap({ Int($0) }
            ) {
                return value
            }
        }
        throw HarnessError("no \(name) in /proc/PID/status")
    }
}

/// Kills a process when it is still there after a time, unless this object has gone before.
final class Watchdog: Sendable {
    private let over = DispatchSemaphore(value: 0)

    init(pid: pid_t, seconds: Int) {
        let over = over
        Thread.detachNewThread {
            if over.wait(timeout: .now() + .seconds(seconds)) == .timedOut {
                FileHandle.standardError.write(Data("watchdog: \(pid) is killed after \(seconds) s\n".utf8))
                kill(pid, SIGKILL)
            }
        }
    }

    deinit { over.signal() }
}
