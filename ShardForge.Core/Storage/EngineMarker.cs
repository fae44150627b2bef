using System.Buffers.Binary;
using System.Text;
using ShardForge.Common;

namespace ShardForge.Storage;

/// <summary>The file that says which engine a directory belongs to, so that another engine, or an older library, refuses it.</summary>
/// <remarks><code>
/// ENGINE | magic "SFENGINE" 8 | version 4 | name length 4 | name | crc 4 |        little-endian
///   version  of the engine's files, counted by each engine for itself; a higher one than the engine knows is refused
///   name     UTF-8, e.g. lsm; at most 255 bytes
///   crc      CRC-32C of all before it
/// </code>
/// Written under another name, flushed, renamed, directory flushed: it is there whole or not at all. An engine that writes it behind its
/// first files can tell a directory whose creation was cut short (no marker: begin again) from one that has lost a file (damage). A directory
/// with other files and no marker is not an engine's.
/// Versions of this format: 1.</remarks>
internal static class EngineMarker
{
    public const string FileName = "ENGINE", LockFileName = "LOCK";
    private const string TemporaryName = FileName + StorageFiles.TemporarySuffix;
    private const int HeaderBytes = 16, CrcBytes = 4, NameBytesMax = 255;

    private static ReadOnlySpan<byte> Magic => "SFENGINE"u8;

    /// <summary>Takes a directory for one owner and makes sure that it is this engine's: creates it with its marker, or checks the marker.</summary>
    /// <param name="files">Where the directory is.</param>
    /// <param name="directory">Created where it is missing.</param>
    /// <param name="engineName">The engine's kind.</param>
    /// <param name="formatVersion">The newest version of its files that the engine can read and write.</param>
    /// <returns>The lock on the directory: dispose it when the engine has closed its files.</returns>
    /// <exception cref="ConfigurationException">In use, another engine's, nobody's but with files in it, or of a newer format. Nothing was changed.</exception>
    /// <exception cref="CorruptionException">The marker is damaged.</exception>
    public static IDisposable Acquire(IFileSystem files, string directory, string engineName, uint formatVersion) =>
        Acquire(files, directory, engineName, formatVersion, [], static () => { });

    /// <summary>The same, with first files that the engine creates before the marker.</summary>
    /// <param name="files">Where the directory is.</param>
    /// <param name="directory">Created where it is missing.</param>
    /// <param name="engineName">The engine's kind.</param>
    /// <param name="formatVersion">The newest version of its files that the engine can read and write.</param>
    /// <param name="firstFiles">Names that a creation that was cut short may have left; they are removed.</param>
    /// <param name="create">Writes the first files, durably. Called only where there is no marker.</param>
    /// <returns>The lock on the directory: dispose it when the engine has closed its files.</returns>
    public static IDisposable Acquire(IFileSystem files, string directory, string engineName, uint formatVersion, IReadOnlyList<string> firstFiles, Action create)
    {
        // Looked at before the lock as well, since taking that creates a file: what is refused stays as it was.
        _ = IsMarked(files, directory, engineName, formatVersion, firstFiles);
        DurableDirectory.Create(files, directory);
        string lockPath = Path.Combine(directory, LockFileName);
        IDisposable held = files.TryLock(lockPath)
            ?? throw new ConfigurationException("DataDirectory", $"{directory} is in use: another engine or process holds {lockPath}. Nothing was changed.");
        try
        {
            if (!IsMarked(files, directory, engineName, formatVersion, firstFiles))
            {
                foreach (string name in firstFiles)
                    files.Delete(Path.Combine(directory, name));
                create();
                Write(files, directory, engineName, formatVersion);
            }

            return held;
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <summary>Writes the marker into a directory that has none, e.g. a checkpoint's. Durable when it returns.</summary>
    public static void Write(IFileSystem files, string directory, string engineName, uint formatVersion)
    {
        StorageFiles.WriteWhole(files, Path.Combine(directory, FileName), file => file.Write(Encode(engineName, formatVersion), 0));
    }

    /// <returns>False: the directory is missing, or nothing is in it.</returns>
    private static bool IsMarked(IFileSystem files, string directory, string engineName, uint formatVersion, IReadOnlyList<string> firstFiles)
    {
        if (files.FileExists(Path.Combine(directory, FileName)))
        {
            Check(files, directory, engineName, formatVersion);
            return true;
        }

        foreach (string path in files.ListFiles(directory))
        {
            string name = Path.GetFileName(path);
            if (name is not (LockFileName or TemporaryName) && !firstFiles.Contains(name))
            {
                throw new ConfigurationException("DataDirectory",
                    $"{directory} has files and no {FileName} file, so no engine wrote it (found {name}). Give an empty directory; nothing was changed.");
            }
        }

        return false;
    }

    /// <summary>Checks the marker that is there.</summary>
    public static void Check(IFileSystem files, string directory, string engineName, uint formatVersion)
    {
        string path = Path.Combine(directory, FileName);
        using IFile file = files.Open(path, FileOpenMode.Read);
        Span<byte> bytes = stackalloc byte[HeaderBytes + NameBytesMax + CrcBytes + 1];
        bytes = bytes[..file.Read(bytes, 0)];
        if (bytes.Length < HeaderBytes + CrcBytes || !bytes.StartsWith(Magic))
            throw new CorruptionException(path, 0, $"{bytes.Length:N0} bytes that are not an engine marker.");
        int nameBytes = BinaryPrimitives.ReadInt32LittleEndian(bytes[12..]);
        if (nameBytes < 0 || nameBytes != bytes.Length - HeaderBytes - CrcBytes)
            throw new CorruptionException(path, 12, $"Name of {nameBytes:N0} bytes in a file of {bytes.Length:N0}.");
        uint stored = BinaryPrimitives.ReadUInt32LittleEndian(bytes[^CrcBytes..]), computed = Crc32C.Compute(bytes[..^CrcBytes]);
        if (stored != computed)
            throw new CorruptionException(path, 0, $"CRC-32C stored {stored:x8}, computed {computed:x8}.");

        string name = Encoding.UTF8.GetString(bytes.Slice(HeaderBytes, nameBytes));
        if (!string.Equals(name, engineName, StringComparison.Ordinal))
            throw new ConfigurationException("StorageEngine", $"{directory} was written by the engine '{name}' and cannot be opened with '{engineName}'. Nothing was changed.");
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(bytes[8..]);
        if (version > formatVersion)
        {
            throw new ConfigurationException("DataDirectory",
                $"{directory} has version {version} of the format of '{name}'; this library knows versions up to {formatVersion}. Nothing was changed.");
        }
    }

    private static byte[] Encode(string engineName, uint formatVersion)
    {
        int nameBytes = Encoding.UTF8.GetByteCount(engineName);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(nameBytes, NameBytesMax);
        byte[] bytes = new byte[HeaderBytes + nameBytes + CrcBytes];
        Magic.CopyTo(bytes);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(8), formatVersion);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(12), nameBytes);
        Encoding.UTF8.GetBytes(engineName, bytes.AsSpan(HeaderBytes));
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(HeaderBytes + nameBytes), Crc32C.Compute(bytes.AsSpan(0, HeaderBytes + nameBytes)));
        return bytes;
    }
}
