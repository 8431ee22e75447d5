/// Stops the process when `condition` does not hold, in every build, with a message that says what was seen.
///
/// It is for our own mistakes alone. Bytes from a disk or a peer, and requests of users, are never judged by it.
@inline(__always)
public func invariant(
    _ condition: @autoclosure () -> Bool, _ message: @autoclosure () -> String,
    file: StaticString = #fileID, line: UInt = #line
) {
    if !condition() { invariantFailed(message(), file: file, line: line) }
}

/// The end of an `invariant` that does not hold: for places that a type checker cannot see are impossible.
@inline(never)
public func invariantFailed(_ message: String, file: StaticString = #fileID, line: UInt = #line) -> Never {
    fatalError("invariant: \(message)", file: file, line: line)
}
