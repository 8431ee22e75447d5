import HostIO
import Primitives

/// File systems on loop devices of one backing file, frozen until `thaw`, or until a watchdog finds it too long.
///
/// A frozen file system has everything written to its device and starts no new write, so a snapshot taken now is one
/// that its own journal need not repair.
final class FrozenFileSystems: Sendable {
    /// Longer than any snapshot takes; a program blocked for this time is worse than a snapshot that needs a journal replay.
    private static let longestNs: UInt64 = 30_000_000_000

    let mountpoints: [String]
    private let isThawed = Guarded(false)

    /// - Parameter file: the backing file, as /sys/block/loopN/loop/backing_file names it.
    /// - Throws: the first that cannot be frozen; those before it are thawed again.
    init(backedBy file: String, host: any Host) throws(ToolError) {
        var frozen: [String] = []
        for path in FrozenFileSystems.mountpoints(backedBy: file) {
            do {
                try Processes.freeze(path)
                frozen.append(path)
            } catch {
                for path in frozen.reversed() { try? Processes.thaw(path) }
                throw ToolError(error, "cannot freeze the file system at \(path)")
            }
        }
        mountpoints = frozen
        guard !frozen.isEmpty else { return }
        _ = host.startThread(name: "thaw-watchdog") { [self] in
            _ = isThawed.wait(forNs: FrozenFileSystems.longestNs) { $0 ? true : nil }
            thaw()
        }
    }

    func thaw() {
        let isMine = isThawed.withLock { isThawed in
            defer { isThawed = true }
            return !isThawed
        }
        isThawed.wakeAll()
        if isMine { FrozenFileSystems.thaw(mountpoints) }
    }

    static func thaw(_ mountpoints: [String]) {
        // The last one frozen may lie on the first.
        for path in mountpoints.reversed() { try? Processes.thaw(path) }
    }

    /// Where file systems are mounted whose device is a loop device over the file, or a partition of one.
    static func mountpoints(backedBy file: String) -> [String] {
        var devices: Set<String> = []
        for name in namesInDirectory("/sys/block") where name.hasPrefix("loop") {
            let base = "/sys/block/" + name
            guard let backing = readSmallFile(base + "/loop/backing_file"), backing.dropLast() == file else { continue }
            for part in [base] + namesInDirectory(base).filter({ $0.hasPrefix(name + "p") }).map({ base + "/" + $0 }) {
                if let number = readSmallFile(part + "/dev") { devices.insert(String(number.dropLast())) }
            }
        }
        var seen: Set<String> = []
        // One mount of each device is enough: the freeze belongs to the file system.
        return MountEntry.all().filter { devices.contains($0.device) && seen.insert($0.device).inserted }.map(
            \.mountpoint)
    }
}
