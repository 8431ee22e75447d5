import Glibc
import HostIO
import Primitives

/// The built program as a person runs it, found beside the tests.
struct Tool {
    struct Ended {
        var code: Int32
        var output: String
        var error: String
        var errorLines: [Substring] { error.split(separator: "\n") }
        var json: JSON? { try? JSON(parsing: output) }
        /// What long work says at its end.
        var summary: JSON? { output.split(separator: "\n").last.flatMap { try? JSON(parsing: String($0)) } }
        /// What an error in JSON says.
        var errorJSON: JSON? { errorLines.last.flatMap { try? JSON(parsing: String($0)) } }
    }

    static let path: String = {
        // The test bundle stands in the folder of the products.
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? (try? readLink("/proc/self/exe")) ?? ""
        for arguments in [bundle, (try? readLink("/proc/self/exe")) ?? ""] {
            let folder = arguments.lastIndex(of: "/").map { String(arguments[..<$0]) } ?? "."
            if access(folder + "/replica-tool", X_OK) == 0 { return folder + "/replica-tool" }
        }
        return "replica-tool"
    }()

    private static func readLink(_ path: String) throws -> String {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink(path, &buffer, buffer.count - 1)
        return count < 0 ? "" : String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Runs it to its end with nothing on standard input.
    static func run(_ arguments: [String], environment: [String: String] = [:]) -> Ended {
        let files = Scratch()
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, files.path + "/out", O_WRONLY | O_CREAT, 0o600)
        posix_spawn_file_actions_addopen(&actions, 2, files.path + "/err", O_WRONLY | O_CREAT, 0o600)
        var words: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) } + [nil]
        let pairs = ["PATH=/usr/bin:/bin:/usr/sbin:/sbin"] + environment.map { "\($0.key)=\($0.value)" }
        var variables: [UnsafeMutablePointer<CChar>?] = pairs.map { strdup($0) } + [nil]
        defer { for word in words + variables { free(word) } }
        var process = pid_t()
        guard posix_spawn(&process, path, &actions, nil, &words, &variables) == 0 else {
            return Ended(code: -1, output: "", error: "cannot start \(path)")
        }
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        let code = status & 0x7F == 0 ? (status >> 8) & 0xFF : 128 + (status & 0x7F)
        return Ended(code: code, output: text(files.path + "/out"), error: text(files.path + "/err"))
    }

    static func run(_ arguments: String...) -> Ended { run(arguments) }

    private static func text(_ path: String) -> String {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let got = read(descriptor, &buffer, buffer.count)
            if got <= 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes += buffer[..<got]
        }
    }
}

/// A directory of a test's own, removed with everything in it.
final class Scratch: Sendable {
    let path: String

    init() {
        var template = Array(("/var/tmp/tool-test." + String(repeating: "X", count: 6)).utf8CString)
        path = template.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress, mkdtemp(base) != nil else { return "/nonexistent" }
            return String(cString: base)
        }
    }

    deinit { Scratch.remove(path) }

    func file(_ name: String, _ bytes: [UInt8] = []) -> String {
        let full = path + "/" + name
        let descriptor = open(full, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        close(descriptor)
        return full
    }

    func folder(_ name: String) -> String {
        mkdir(path + "/" + name, 0o700)
        return path + "/" + name
    }

    private static func remove(_ path: String) {
        if let stream = opendir(path) {
            var names: [String] = []
            while let entry = readdir(stream) {
                names.append(
                    withUnsafePointer(to: &entry.pointee.d_name) {
                        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                    })
            }
            closedir(stream)
            for name in names where name != "." && name != ".." {
                var info = stat()
                guard lstat(path + "/" + name, &info) == 0 else { continue }
                if info.st_mode & S_IFMT == S_IFDIR { remove(path + "/" + name) } else { unlink(path + "/" + name) }
            }
        }
        rmdir(path)
    }
}
