import Foundation
import Testing

/// What this machine has of what the end-to-end suites need, found out once.
enum Machine {
    /// The built tool: what REPLICA_TOOL names, or the one beside the test bundle.
    static let tool: String = {
        if let path = ProcessInfo.processInfo.environment["REPLICA_TOOL"] { return path }
        return URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent().path + "/replica-tool"
    }()

    static let isRoot = getuid() == 0
    static let hasFuse = access("/dev/fuse", R_OK | W_OK) == 0
    static let hasTool = access(tool, X_OK) == 0

    /// Tried, not guessed: some containers show the devices and refuse them.
    static let hasLoopDevices: Bool = {
        guard isRoot else { return false }
        return
            (try? Scratch.use { scratch in
                try scratch.must("truncate", "-s", "1M", scratch("image"))
                let device = try scratch.must("losetup", "--find", "--show", scratch("image"))
                try scratch.must("losetup", "-d", device.trimmingCharacters(in: .whitespacesAndNewlines))
                return true
            }) ?? false
    }()

    /// How much more than on each push is done: 1 on each push, more in long runs (REPLICA_STORE_TEST_SCALE).
    static let scale = ProcessInfo.processInfo.environment["REPLICA_STORE_TEST_SCALE"].flatMap { Int($0) } ?? 1
}

extension Trait where Self == ConditionTrait {
    static var needsTool: Self { .enabled(if: Machine.hasTool, "no replica-tool is built (REPLICA_TOOL names it)") }
    static var needsMount: Self {
        .enabled(
            if: Machine.hasTool && Machine.isRoot && Machine.hasFuse, "needs root, /dev/fuse and a built replica-tool")
    }
    static var needsLoopDevices: Self {
        .enabled(
            if: Machine.hasTool && Machine.isRoot && Machine.hasFuse && Machine.hasLoopDevices,
            "needs root, /dev/fuse, loop devices and a built replica-tool")
    }
}

/// The suite of all suites: one after the other, since they share two cores, eight loop devices and the clock of a person
/// who waits.
@Suite(.serialized) enum EndToEnd {}
