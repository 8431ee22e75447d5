import Glibc
import HostIO
import Primitives

/// Starts the daemon and waits until it can be used.
///
/// Swift has no fork, so the same program is started anew with the same words and one more, in a session of its own.
/// It reports once through descriptor 3: `{"ready":…}` or `{"code":…,"message":…}`. Until then its standard error comes
/// here too, for what it might say when it dies without a report.
enum DaemonLauncher {
    static let statusDescriptor: Int32 = 3

    /// - Returns: what the daemon reported when it was ready.
    static func start(_ arguments: [String]) throws(ToolError) -> JSON {
        let status = try pipe()
        let errors = try pipe()
        defer { for descriptor in [status.read, errors.read] { close(descriptor) } }
        let null = open("/dev/null", O_RDWR | O_CLOEXEC)
        let process: Int32
        do {
            process = try Processes.spawnDaemon(
                "/proc/self/exe", arguments, null: null, error: errors.write, status: status.write)
        } catch {
            for descriptor in [null, status.write, errors.write] { close(descriptor) }
            throw ToolError(error, "cannot start the daemon")
        }
        for descriptor in [null, status.write, errors.write] { close(descriptor) }
        let report = readAll(status.read)
        if let document = try? JSON(parsing: report) {
            if document["ready"] != nil { return document }
            if let code = document["code"]?.int, let message = document["message"]?.text {
                var ignored: Int32 = 0
                waitpid(process, &ignored, 0)
                throw ToolError(Exit(rawValue: Int32(clamping: code)) ?? .failed, message)
            }
        }
        var ended: Int32 = 0
        waitpid(process, &ended, 0)
        let said =
            String(decoding: readAll(errors.read), as: UTF8.self).split(separator: "\n").last.map { ": \($0)" } ?? ""
        throw ToolError(.failed, "the daemon ended before the volume could be used (status \(ended))\(said)")
    }

    /// In the daemon: tells the starter, and lets go of it.
    static func report(_ document: JSON) {
        let bytes = Array((document.description + "\n").utf8)
        _ = bytes.withUnsafeBytes { write(statusDescriptor, $0.baseAddress, $0.count) }
        close(statusDescriptor)
    }

    private static func pipe() throws(ToolError) -> (read: Int32, write: Int32) {
        var ends: [Int32] = [-1, -1]
        guard Glibc.pipe(&ends) == 0 else { throw ToolError(.failed, "cannot make a pipe: \(errorText(errno))") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (ends[0], ends[1])
    }

    private static func readAll(_ descriptor: Int32) -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while bytes.count < 1 << 20 {
            let got = read(descriptor, &buffer, buffer.count)
            if got < 0, errno == EINTR { continue }
            if got <= 0 { break }
            bytes += buffer[..<got]
        }
        return bytes
    }
}
