import Foundation

/// A loop device over a file, detached at the end.
final class LoopDevice {
    let path: String
    private let scratch: Scratch
    private var isAttached = true

    init(over file: String, in scratch: Scratch, sectorSize: Int = 4096, direct: Bool = true, readOnly: Bool = false)
        throws
    {
        self.scratch = scratch
        var arguments = ["losetup", "--find", "--show", "--sector-size", String(sectorSize)]
        if direct { arguments.append("--direct-io=on") }
        if readOnly { arguments.append("--read-only") }
        let result = try Running(arguments + [file], in: scratch).wait()
        guard result.succeeded else { throw HarnessError(result.description) }
        path = result.output.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    func detach() throws {
        guard isAttached else { return }
        isAttached = false
        try scratch.must("losetup", "-d", path)
    }

    deinit { try? detach() }
}
