using ShardForge.Storage;

namespace ShardForge.Testing;

/// <summary>One promise of <see cref="IStorageEngine"/>, put to the test.</summary>
public sealed class StorageEngineConformanceCase
{
    // Far above what any case needs; it only turns a hang into a failure.
    private static readonly TimeSpan s_timeMax = TimeSpan.FromMinutes(3);

    private readonly Func<ConformanceRun, Task> _body;

    internal StorageEngineConformanceCase(string name, bool requiresDirectory, Func<ConformanceRun, Task> body)
    {
        Name = name;
        RequiresDirectory = requiresDirectory;
        _body = body;
    }

    /// <summary>What must hold, as a sentence.</summary>
    public string Name { get; }

    /// <summary>Whether it opens an engine again on the data it left behind, so that it cannot run in memory.</summary>
    public bool RequiresDirectory { get; }

    /// <summary>Runs it.</summary>
    /// <param name="factory">Opens the engine under test.</param>
    /// <param name="directory">A directory of its own, absent or empty, on the real file system; null: in memory.</param>
    /// <param name="seed">Of the randomness in it; the same one gives the same operations.</param>
    /// <param name="cancellationToken">Ends the run.</param>
    /// <exception cref="ConformanceException">The engine does something else.</exception>
    public async Task RunAsync(IStorageEngineFactory factory, string? directory, int seed = 1, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(factory);
        if (RequiresDirectory && directory is null)
            throw new ArgumentException($"'{Name}' needs a directory.", nameof(directory));
        ConformanceRun run = new(Name, factory, directory, seed, cancellationToken);
        try
        {
            await _body(run).WaitAsync(s_timeMax, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception error) when (error is not ConformanceException && !cancellationToken.IsCancellationRequested)
        {
            throw new ConformanceException(Name, seed, $"unexpected {error.GetType().Name}: {error.Message}", error);
        }
        finally
        {
            await run.CloseAllAsync().ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override string ToString() => Name;
}
