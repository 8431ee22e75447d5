import Foundation
import Testing

extension EndToEnd {
    /// The harness tells the truth: without this, a suite that calls it proves nothing.
    @Suite struct Harness {
        @Test func `a command's output, errors and exit code come back`() throws {
            try Scratch.use { scratch in
                let result = try scratch.run("sh", "-c", "echo out; echo err >&2; exit 7")
                #expect(result.code == 7)
                #expect(result.output == "out\n")
                #expect(result.errors == "err\n")
            }
        }

        @Test func `a command that hangs is killed with its children`() throws {
            try Scratch.use { scratch in
                let result = try scratch.run("sh", "-c", "tail -f /dev/null & echo $!; wait", seconds: 1)
                #expect(result.code == 1009)
                let child = try #require(pid_t(result.output.trimmingCharacters(in: .whitespacesAndNewlines)))
                let status = (try? String(contentsOfFile: "/proc/\(child)/status", encoding: .utf8)) ?? "State:\tX"
                #expect(status.contains("State:\tX") || status.contains("State:\tZ"), "the child is alive")
            }
        }

        @Test func `a background process that keeps the output open does not hold the test`() throws {
            try Scratch.use { scratch in
                let result = try scratch.run("sh", "-c", "tail -f /dev/null & echo $!", seconds: 30)
                #expect(result.code == 0)
                let child = try #require(pid_t(result.output.trimmingCharacters(in: .whitespacesAndNewlines)))
                kill(child, SIGKILL)
            }
        }

        @Test func `a program that is not there is an error and not a hang`() throws {
            try Scratch.use { scratch in
                #expect(throws: HarnessError.self) { try scratch.run("no-such-program") }
                #expect(throws: HarnessError.self) { try scratch.must("false") }
            }
        }

        @Test func `a scratch folder is gone afterwards`() throws {
            let path = try Scratch.use { scratch in
                try scratch.must("touch", scratch("a"))
                return scratch.path
            }
            #expect(!FileManager.default.fileExists(atPath: path))
        }

        @Test(.enabled(if: Machine.hasLoopDevices, "needs root and loop devices"))
        func `a scratch folder is gone even when a test leaves a mount and a loop device`() throws {
            let (path, device) = try Scratch.use { scratch in
                try scratch.must("truncate", "-s", "16M", scratch("image"))
                try scratch.must("mkfs.ext4", "-q", scratch("image"))
                let device = try scratch.must("losetup", "--find", "--show", scratch("image"))
                    .trimmingCharacters(in: .whitespacesAndNewlines)
                try scratch.must("mount", device, scratch.folder("a b"))
                return (scratch.path, device)
            }
            #expect(!FileManager.default.fileExists(atPath: path))
            let attached = try Scratch.use { try $0.must("losetup", "-l", "-n", "-O", "NAME,BACK-FILE") }
            #expect(!attached.contains(path), "\(device) is still attached")
        }

        @Test func `a file's calls say what the kernel says`() throws {
            try Scratch.use { scratch in
                try scratch.must("truncate", "-s", "1M", scratch("a"))
                let file = try UserFile(scratch("a"))
                #expect(file.size == 1 << 20)
                #expect(file.write([1, 2, 3], at: 70_000) == 3)
                #expect(file.read(4, at: 69_999) == [0, 1, 2, 3])
                #expect(try file.dataRuns() == [69_632..<73_728])
                #expect(file.writeMapped([9, 9], at: 4095) == 0)
                #expect(file.readMapped(4, at: 4094) == [0, 9, 9, 0])
                #expect(file.punch(0, 8192) == 0)
                #expect(file.read(8192, at: 0) == [UInt8](repeating: 0, count: 8192))
                #expect(file.fallocate(0x4000, 0, 1) == -EOPNOTSUPP)
                let readOnly = try UserFile(scratch("a"), O_RDONLY)
                #expect(readOnly.write([1], at: 0) == -Int(EBADF))
                try flipBit(scratch("a"), at: 70_000, bit: 1)
                #expect(file.read(1, at: 70_000) == [3])
            }
        }

        @Test func `a seed gives the same run again`() {
            var first = Random(seed: 7), second = Random(seed: 7), third = Random(seed: 8)
            #expect(first.bytes(100) == second.bytes(100))
            #expect(first.next() != third.next())
        }
    }
}
