internal import CFuse3
internal import Glibc
internal import Primitives

/// What libfuse has to say. It writes to a place of the whole process, so this is the one thing here that is global.
enum LibfuseLog {
    /// Takes libfuse's messages off stderr; once.
    static let isCaptured: Bool = {
        fuse_set_log_func(receiver())
        return true
    }()

    /// The lines since the last call, joined; for the error message of what just failed.
    static func take() -> String {
        lines.withLock { lines in
            let text = lines.joined(separator: "; ")
            lines = []
            return text
        }
    }
}

/// The last lines, newest at the end.
private let lines = Guarded<[String]>([])
private let lineLimit = 8

private func receiver() -> fuse_log_func_t {
    return { _, format, arguments in
        guard let format, let arguments else { return }
        let line = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer -> String in
            guard let base = buffer.baseAddress else { return "" }
            vsnprintf(base, buffer.count, format, arguments)
            return String(cString: base)
        }
        lines.withLock { lines in
            if lines.count == lineLimit { lines.removeFirst() }
            lines.append(line.hasSuffix("\n") ? String(line.dropLast()) : line)
        }
    }
}
