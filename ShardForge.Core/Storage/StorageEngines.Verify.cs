using ShardForge.Storage.Lsm.Verify;

namespace ShardForge.Storage;

public static partial class StorageEngines
{
    /// <summary>Reads every file of a directory of the <c>lsm</c> engine and checks every checksum in it, and that the files agree with each other. Changes nothing.</summary>
    /// <param name="directory">Of an engine that is not open.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <returns>All that is wrong, with file and offset; damage is not an exception here.</returns>
    /// <exception cref="ConfigurationException">The directory is missing, in use, of another engine, or of a newer format.</exception>
    public static Task<StorageVerification> VerifyAsync(string directory, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        return VerifyAsync(new StorageEngineContext { Directory = directory }, cancellationToken);
    }

    /// <summary>The same, on another file system.</summary>
    /// <param name="context">Directory and file system count.</param>
    /// <param name="cancellationToken">Ends it.</param>
    public static Task<StorageVerification> VerifyAsync(StorageEngineContext context, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentException.ThrowIfNullOrEmpty(context.Directory);
        return RunAsync($"verify {context.Name}", () => new DirectoryCheck(context.FileSystem, context.Directory, cancellationToken).Verify());
    }

    /// <summary>Writes what is whole in a damaged directory of the <c>lsm</c> engine into a new one, which then opens. The damaged one is left as it is.</summary>
    /// <remarks>
    /// Tables are saved block by block. Of the write-ahead logs everything up to the first damage is saved: what came later could rest on what is missing. A
    /// delete in a lost block is lost as well: what it hid comes back.
    /// </remarks>
    /// <param name="directory">Of an engine that is not open.</param>
    /// <param name="targetDirectory">Absent or empty; gets the copy.</param>
    /// <param name="cancellationToken">Ends it; what was written is removed.</param>
    /// <exception cref="ConfigurationException">The directory is missing, in use, of another engine, or of a newer format.</exception>
    /// <exception cref="ArgumentException">The target is neither absent nor empty.</exception>
    public static Task<StorageRepair> RepairAsync(string directory, string targetDirectory, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(directory);
        return RepairAsync(new StorageEngineContext { Directory = directory }, targetDirectory, cancellationToken);
    }

    /// <summary>The same, on another file system.</summary>
    /// <param name="context">Directory and file system count.</param>
    /// <param name="targetDirectory">Absent or empty, on that file system.</param>
    /// <param name="cancellationToken">Ends it; what was written is removed.</param>
    public static Task<StorageRepair> RepairAsync(StorageEngineContext context, string targetDirectory, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(context);
        ArgumentException.ThrowIfNullOrEmpty(context.Directory);
        ArgumentException.ThrowIfNullOrEmpty(targetDirectory);
        return RunAsync($"repair {context.Name}", () => new DirectoryRepair(context, targetDirectory, cancellationToken).Run());
    }

    /// <summary>Long blocking work on a thread of its own.</summary>
    private static async Task<T> RunAsync<T>(string name, Func<T> work)
    {
        StorageThreads threads = new();
        await using (threads.ConfigureAwait(false))
        {
            T result = default!;
            await threads.RunAsync(name, () => result = work()).ConfigureAwait(false);
            return result;
        }
    }
}
