using System.Buffers.Binary;
using ShardForge.Common;

namespace ShardForge.Storage.Sqlite;

/// <summary>How much of SQLite's write-ahead file was flushed, kept beside it: SQLite takes damage there for the torn end of the file and drops what is behind it.</summary>
/// <remarks><code>
/// data.promise | slot 4096 | slot 4096 |                      written in turn; the valid one with the higher number counts
/// slot         | magic "SFSQLPRM" 8 | version 4 | crc 4 | number 8 | salts 8 | frames 8 | zeros |      little-endian
///   salts   of the write-ahead file's header, as they are there: they change when SQLite begins the file anew
///   frames  from its start that are flushed; 0: nothing is promised
/// </code>
/// Written after the flush that it promises, and not flushed itself: after the end of the process it is there, after a power cut perhaps an
/// older one. Taken back, durably, before SQLite removes or empties the file (at dispose and at a compaction).
/// At open, before SQLite sees the file: with the promise's salts in its header, every promised frame must pass its checksum; with others, the
/// file was begun anew, which SQLite does only with everything in the database file. What was not promised cannot be told from a torn end.
/// Threads: the engine's writer. Versions of the format: 1.</remarks>
internal sealed class SqliteLogPromise : IDisposable
{
    public const string FileName = "data.promise";
    private const int Version = 1, SlotBytes = 4096, UsedBytes = 40;

    private readonly IFile _file;
    private readonly SqliteLogFile _log;
    private long _number;
    private bool _promises;

    private SqliteLogPromise(IFile file, string databasePath, long number)
    {
        _file = file;
        _log = new SqliteLogFile(databasePath + "-wal");
        _number = number;
    }

    private static ReadOnlySpan<byte> Magic => "SFSQLPRM"u8;

    /// <summary>Checks the write-ahead file against the promise. SQLite has not opened the database yet.</summary>
    /// <exception cref="CorruptionException">A promised part of the write-ahead file is missing or damaged.</exception>
    public static SqliteLogPromise Open(IFileSystem files, string databasePath)
    {
        string path = Path.Combine(Path.GetDirectoryName(databasePath)!, FileName);
        IFile file = files.Open(path, files.FileExists(path) ? FileOpenMode.ReadWrite : FileOpenMode.CreateNew);
        try
        {
            (long number, ulong salts, long frames) = Read(file);
            if (frames > 0)
                SqliteLogFile.Verify(databasePath + "-wal", salts, frames);
            return new SqliteLogPromise(file, databasePath, number) { _promises = frames > 0 };
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Takes a promise back, then closes the database's last connection: SQLite empties the write-ahead file into the database and removes it.</summary>
    /// <param name="promise">Disposed; null: there is none.</param>
    /// <param name="session">Disposed. No other one is open.</param>
    public static void Close(SqliteLogPromise? promise, SqliteSession session)
    {
        try
        {
            promise?.TakeBack();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            // The promise stands, so the file must stay as well; the next open goes on with both.
            session.KeepLogAtClose();
        }

        promise?.Dispose();
        session.Dispose();
    }

    /// <summary>Promises all that is in the write-ahead file. Called after it was flushed.</summary>
    public void Promise()
    {
        (ulong salts, long frames) = _log.FindEnd();
        Write(salts, frames);
        _promises = frames > 0;
    }

    /// <summary>Promises nothing, durably. Called before SQLite removes or empties the write-ahead file.</summary>
    public void TakeBack()
    {
        if (!_promises)
            return;

        // Both slots: the power may tear the one that is written, and the other one must not promise either.
        Write(0, 0);
        Write(0, 0);
        _file.Flush();
        _promises = false;
    }

    public void Dispose()
    {
        _log.Dispose();
        _file.Dispose();
    }

    private static (long Number, ulong Salts, long Frames) Read(IFile file)
    {
        (long Number, ulong Salts, long Frames) newest = default;
        Span<byte> slot = stackalloc byte[UsedBytes];
        for (int index = 0; index < 2; index++)
        {
            if (file.Read(slot, index * SlotBytes) < UsedBytes || !slot.StartsWith(Magic)
                || BinaryPrimitives.ReadUInt32LittleEndian(slot[12..]) != SlotCrc(slot))
            {
                continue;
            }

            if (BinaryPrimitives.ReadUInt32LittleEndian(slot[8..]) > Version)
                throw new ConfigurationException("DataDirectory", $"{file.Path} is of a newer format; this library knows versions up to {Version}. Nothing was changed.");
            long number = BinaryPrimitives.ReadInt64LittleEndian(slot[16..]);
            if (number > newest.Number)
                newest = (number, BinaryPrimitives.ReadUInt64LittleEndian(slot[24..]), BinaryPrimitives.ReadInt64LittleEndian(slot[32..]));
        }

        return newest;
    }

    private void Write(ulong salts, long frames)
    {
        Span<byte> slot = stackalloc byte[UsedBytes];
        Magic.CopyTo(slot);
        BinaryPrimitives.WriteUInt32LittleEndian(slot[8..], Version);
        BinaryPrimitives.WriteInt64LittleEndian(slot[16..], ++_number);
        BinaryPrimitives.WriteUInt64LittleEndian(slot[24..], salts);
        BinaryPrimitives.WriteInt64LittleEndian(slot[32..], frames);
        BinaryPrimitives.WriteUInt32LittleEndian(slot[12..], SlotCrc(slot));
        _file.Write(slot, _number % 2 * SlotBytes);
    }

    private static uint SlotCrc(ReadOnlySpan<byte> slot) => Crc32C.Append(Crc32C.Compute(slot[..12]), slot[16..UsedBytes]);
}
