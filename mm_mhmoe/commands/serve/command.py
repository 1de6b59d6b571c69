from __future__ import annotations

from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_eval.libraries import LIBRARIES
from rich.console import Console

from mm_mhmoe.commands.evaluate import library_model, own_model
from mm_mhmoe.commands.sources import data_path

HOST = "127.0.0.1"


def serve(model: list[str] | str, shards: str = "demo:test", port: int = 8765, workers: int = 1) -> None:
    """Serves a page to try models by hand: type a query and get pictures; upload a picture and get captions, answers
    to a question, and the expert of every patch.

    The page is there for this machine only (127.0.0.1). It needs the extra `serve`: pip install 'mm-mhmoe[serve]'.

    Args:
        model: model directories (or open_clip:ARCHITECTURE/WEIGHTS), separated by commas; each does what it can: one of
            finetune retrieval finds pictures, of vqa answers, of captioning writes captions.
        shards: the pictures that are searched, with their captions.
        port: of the page's address; 0: any that is free.
        workers: processes that read the pictures ahead; 0: none.
    """
    try:
        import uvicorn

        from mm_mhmoe.commands.serve.app import make_app
    except ModuleNotFoundError as error:
        raise ValueError(f"serve needs {error.name}, which is not installed: pip install 'mm-mhmoe[serve]'") from error
    from mm_mhmoe.commands.serve.engine import Engine

    names = model.split(",") if isinstance(model, str) else model
    models = [library_model(name) if name.startswith(LIBRARIES) else own_model(name) for name in names]
    dataset = ShardDataset(data_path(shards))
    console = Console(highlight=False)
    with console.status(f"reading {len(dataset):,} pictures"):
        engine = Engine(models, dataset, workers=workers)
    server = uvicorn.Server(uvicorn.Config(make_app(engine), host=HOST, port=port, log_level="warning"))
    with server.config.bind_socket() as socket:
        console.print(f"http://{HOST}:{socket.getsockname()[1]}  (Ctrl-C ends it)")
        server.run(sockets=[socket])
