using System.Globalization;
using System.Security.Cryptography;

namespace ShardForge.Samples.Quickstart;

/// <summary>A part of a file: what becomes one value.</summary>
internal readonly record struct Chunk(string Path, string RelativePath, int Number, long Offset);

/// <summary>The input: every file under a folder, cut into chunks.</summary>
/// <remarks>
/// A chunk's keys, for each time it is ingested (a <i>pass</i>):
/// <code>
/// file/{pass}/{relative path}/{chunk, 6 digits}   -> its bytes
/// hash/{pass}/{SHA-256 of its bytes}              -> a key of the first kind that holds these bytes
/// </code></remarks>
internal sealed class SourceFolder
{
    private const int ChunkBytesMax = 64 * 1024;
    private static readonly HashSet<string> s_leftOut = new(StringComparer.OrdinalIgnoreCase) { ".git", "bin", "obj" };

    private SourceFolder(string root, IReadOnlyList<Chunk> chunks, long bytes, int fileCount)
    {
        Root = root;
        Chunks = chunks;
        Bytes = bytes;
        FileCount = fileCount;
    }

    public string Root { get; }

    public IReadOnlyList<Chunk> Chunks { get; }

    public long Bytes { get; }

    public int FileCount { get; }

    public static SourceFolder Read(string root)
    {
        List<Chunk> chunks = [];
        long bytes = 0;
        int fileCount = 0;
        foreach (string path in FilesUnder(root))
        {
            fileCount++;
            string relativePath = Path.GetRelativePath(root, path).Replace('\\', '/');
            long fileBytes = new FileInfo(path).Length, offset = 0;
            bytes += fileBytes;
            // An empty file is one empty chunk.
            for (int number = 0; number == 0 || offset < fileBytes; number++, offset += ChunkBytesMax)
                chunks.Add(new Chunk(path, relativePath, number, offset));
        }

        return new SourceFolder(root, chunks, bytes, fileCount);
    }

    public static byte[] ReadBytes(Chunk chunk)
    {
        using FileStream file = new(chunk.Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
        byte[] bytes = new byte[(int)Math.Clamp(file.Length - chunk.Offset, 0, ChunkBytesMax)];
        file.Position = chunk.Offset;
        int read = file.ReadAtLeast(bytes, bytes.Length, throwOnEndOfStream: false);
        return read == bytes.Length ? bytes : bytes[..read];
    }

    public static string FileKey(int pass, Chunk chunk) =>
        string.Create(CultureInfo.InvariantCulture, $"file/{pass}/{chunk.RelativePath}/{chunk.Number:D6}");

    public static string HashKey(int pass, byte[] hash) => string.Create(CultureInfo.InvariantCulture, $"hash/{pass}/{Convert.ToHexStringLower(hash)}");

    public static byte[] HashOf(byte[] bytes) => SHA256.HashData(bytes);

    /// <summary>Real files only: a link may lead out of the folder, or round in a circle.</summary>
    private static IEnumerable<string> FilesUnder(string folder)
    {
        EnumerationOptions options = new() { AttributesToSkip = FileAttributes.ReparsePoint | FileAttributes.Device, IgnoreInaccessible = true };
        foreach (string path in Directory.EnumerateFiles(folder, "*", options).Order(StringComparer.Ordinal))
            yield return path;
        foreach (string below in Directory.EnumerateDirectories(folder, "*", options).Order(StringComparer.Ordinal))
        {
            if (s_leftOut.Contains(Path.GetFileName(below)))
                continue;
            foreach (string path in FilesUnder(below))
                yield return path;
        }
    }
}
