import Glibc
import Primitives

/// The version of the JSON that the tool prints. It rises when a key changes its meaning or goes.
let schemaVersion: JSON = 1

/// Standard output and standard error. Lines are written whole.
enum Output {
    /// Writes to standard output. A reader that has gone ends the tool quietly, as SIGPIPE would.
    static func write(_ text: String) {
        if !write(text, to: STDOUT_FILENO) { exit(Exit.failed.rawValue) }
    }

    static func line(_ text: String) { write(text + "\n") }

    /// One document for a query.
    static func document(_ json: JSON) { line(json.pretty) }

    /// One line of long work.
    static func message(_ type: String, _ json: JSON) {
        var members = [JSON.Member("message_type", .string(type)), JSON.Member("schema_version", schemaVersion)]
        members += json.members ?? []
        line(JSON.object(members).description)
    }

    static func error(_ text: String) { _ = write(text + "\n", to: STDERR_FILENO) }

    private static func write(_ text: String, to descriptor: Int32) -> Bool {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if written < 0 {
                if errno == EINTR { continue }
                if errno == EAGAIN {
                    var item = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    poll(&item, 1, -1)
                    continue
                }
                return false
            }
            bytes = bytes.dropFirst(written)
        }
        return true
    }

    /// Colours only for a person who wants them.
    static let hasColour: Bool =
        isatty(STDOUT_FILENO) == 1 && getenv("NO_COLOR") == nil && getenv("TERM").map { String(cString: $0) } != "dumb"

    enum Colour: String { case red = "31", green = "32", yellow = "33", bold = "1" }

    static func coloured(_ text: String, _ colour: Colour) -> String {
        hasColour ? "\u{1B}[\(colour.rawValue)m\(text)\u{1B}[0m" : text
    }
}

extension JSON {
    /// A document with its schema version in front.
    static func document(_ members: JSON) -> JSON {
        .object([Member("schema_version", schemaVersion)] + (members.members ?? []))
    }
}
