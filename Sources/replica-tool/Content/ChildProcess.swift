import Glibc
import HostIO
import Primitives

/// Another program, run to its end, with nothing on its standard input.
enum ChildProcess {
    /// - Returns: its exit code, 128 and the number for a signal.
    /// - Throws: `notFound` when there is no such program.
    static func run(_ program: String, _ arguments: [String]) throws(ToolError) -> Int32 {
        let (code, _) = try start(program, arguments, captures: false)
        return code
    }

    /// As `run`, with what it wrote to standard output.
    static func output(_ program: String, _ arguments: [String]) throws(ToolError) -> (code: Int32, bytes: [UInt8]) {
        try start(program, arguments, captures: true)
    }

    private static func start(
        _ program: String, _ arguments: [String], captures: Bool
    ) throws(ToolError) -> (code: Int32, bytes: [UInt8]) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw ToolError(.failed, "cannot make a pipe: \(errorText(errno))") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        // What it says goes to standard error: standard output is for our own results.
        posix_spawn_file_actions_adddup2(&actions, captures ? ends[1] : STDERR_FILENO, 1)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // Our signals are blocked and SIGPIPE is ignored; a program that we start expects neither.
        var none = sigset_t()
        sigemptyset(&none)
        var pipeSignal = sigset_t()
        sigemptyset(&pipeSignal)
        sigaddset(&pipeSignal, SIGPIPE)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK) | Int16(POSIX_SPAWN_SETSIGDEF))
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &pipeSignal)
        var words: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        var process: pid_t = 0
        let failure = posix_spawnp(&process, program, &actions, &attributes, words, environ)
        close(ends[1])
        defer { close(ends[0]) }
        guard failure == 0 else {
            if failure == ENOENT { throw ToolError(.notFound, "\(program) is not installed; install it and try again") }
            throw ToolError(.failed, "cannot start \(program): \(errorText(failure))")
        }
        let bytes = captures ? readAll(ends[0]) : []
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0 {
            if errno != EINTR { throw ToolError(.failed, "cannot wait for \(program): \(errorText(errno))") }
        }
        let signal = status & 0x7F
        return (signal == 0 ? (status >> 8) & 0xFF : 128 + signal, bytes)
    }

    private static func readAll(_ descriptor: Int32) -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while bytes.count < 64 << 20 {
            let got = read(descriptor, &buffer, buffer.count)
            if got < 0, errno == EINTR { continue }
            if got <= 0 { break }
            bytes += buffer[..<got]
        }
        return bytes
    }
}
