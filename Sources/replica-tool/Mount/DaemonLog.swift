import Glibc
import HostIO
import Logging
import Primitives

/// The log file of a daemon: one line a message, with time and level. Opened once, O_APPEND, 0600.
struct DaemonLog: LogHandler {
    /// A log that is longer when the daemon starts becomes `NAME.1`.
    private static let rotationBytes: off_t = 4 << 20

    var logLevel: Logger.Level = .info
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?
    private let descriptor: Int32
    private let host: any Host

    init(descriptor: Int32, host: any Host, level: Logger.Level) {
        self.descriptor = descriptor
        self.host = host
        logLevel = level
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var line = "\(host.wallClock().rfc3339) \(event.level.rawValue) \(event.message)"
        let all = metadata.merging(event.metadata ?? [:]) { $1 }
        for (key, value) in all.sorted(by: { $0.key < $1.key }) { line += " \(key)=\(value)" }
        let bytes = Array((line.split(whereSeparator: \.isNewline).joined(separator: " ") + "\n").utf8)
        // One write a line: O_APPEND keeps lines of several threads whole. A full disk must not stop the daemon.
        _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
    }

    /// Opens the file for appending; an old long one is put aside.
    static func openFile(_ path: String) throws(ToolError) -> Int32 {
        var info = stat()
        if lstat(path, &info) == 0, info.st_mode & S_IFMT == S_IFREG, info.st_size > rotationBytes {
            rename(path, path + ".1")
        }
        let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0o600)
        guard descriptor >= 0 else {
            throw ToolError(
                .failed, "cannot write the log \(path): \(errorText(errno)); choose another with --log FILE")
        }
        return descriptor
    }
}
