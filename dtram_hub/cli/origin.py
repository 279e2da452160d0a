"""Where the weights of a model come from: the training, the data, the licence, and the encoder's weights."""

from ..learning.run_folder import RunFolder
from ..models.dtram import DTRAM
from ..models.preprocessing import PAPER, tells_own_origin
from ..sharing.card_data import describe_data
from ..sharing.cards import base_model
from ..sharing.hub_client import CARD
from ..sharing.licence import licence_of
from ..sharing.named_models import NamedModel


def origin_of(named: NamedModel, model: DTRAM) -> dict:
    """The origin of the weights of a model; None where nothing states it.

    The licence is that of the card in the folder, or else of the configuration. A model that has no weights
    of its own has the origin of its encoder's.
    """
    cfg = model.pretrained_cfg
    if named.folder is None:
        facts = {"weights": "hf_hub_id", "license": "license", "paper": "paper_ids"}
        return {"weights": "none of its own"} | {
            f"encoder_{name}": cfg.get(key) for name, key in facts.items()
        }
    run, card = RunFolder(named.folder), named.folder / CARD
    metrics, recipe = (run.read_metrics(), run.read_recipe()) if run.exists and run.is_finished else ({}, {})
    license = licence_of(card) if card.is_file() else None
    if license is None and tells_own_origin(cfg):
        license = cfg.get("license")
    version, seed = (metrics.get(name, "unknown") for name in ("version", "seed"))
    data = describe_data(recipe, metrics, model.num_classes) if recipe else {}
    return {
        "weights": f"trained by dtram-hub {version}, seed {seed}" if metrics else None,
        "encoder_weights": base_model(recipe, model) or recipe.get("encoder_weights"),
        "license": None if license is None else str(license),
        "paper": PAPER,
        "data": data.get("name"),
        "data_license": data.get("license"),
    }
